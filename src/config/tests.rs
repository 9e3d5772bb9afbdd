use super::*;
use crate::data::{AugmentKind, Dataset, ImageShape, Images};

fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn flags_beat_the_file_and_the_file_beats_the_preset() {
    let (_dir, path) = write("preset = \"v2\"\nseed = 5\n[smash]\nbatch = 20\n[space]\ndepth = 3\n");
    let args = RunArgs { config: Some(path), seed: Some(9), ..RunArgs::default() };
    let config = RunConfig::resolve(&args).unwrap();
    assert_eq!((config.seed, config.smash.batch, config.space.depth), (9, 20, 3));
    assert_eq!(config.space.n_max, Space::v2().n_max, "the rest is the preset's");
}

#[test]
fn an_optimizer_of_another_kind_replaces_the_presets() {
    let adam = "[retrain.optimizer]\nkind = \"adam\"\nbeta1 = 0.9\nbeta2 = 0.99\nepsilon = 1e-8\ndecay = 0.0\n";
    let (_dir, path) = write(adam);
    let config = RunConfig::resolve(&RunArgs { config: Some(path), ..RunArgs::default() }).unwrap();
    assert_eq!(config.retrain.optimizer, Optimizer::Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, decay: 0.0 });
}

#[test]
fn the_written_form_reads_back_equal() {
    for preset in [Preset::V1, Preset::V2, Preset::Small] {
        let config = RunConfig::preset(preset);
        let (_dir, path) = write(&config.to_toml());
        assert_eq!(RunConfig::load(&path).unwrap(), config);
    }
}

#[test]
fn differences_are_named_one_by_one() {
    let a = RunConfig::preset(Preset::Small);
    let mut b = a.clone();
    b.smash.batch = 64;
    b.checkpoint_seconds = 1;
    assert_eq!(a.differences(&b), ["smash.batch: 50 now, 64 before"]);
}

#[test]
fn unknown_keys_and_impossible_values_are_named() {
    let (_dir, path) = write("[smash]\nbatchsize = 20\n");
    let error = RunConfig::resolve(&RunArgs { config: Some(path), ..RunArgs::default() }).unwrap_err();
    assert!(error.to_string().contains("batchsize"), "{error}");
    assert_eq!(error.exit_code(), 3);
    for (key, text) in [
        ("stem_kernel", "stem_kernel = 4\n"),
        ("search.probability", "[search]\nprobability = 7.0\n"),
        ("hyper.stem", "[hyper]\nstem = 9000000000\n"),
        ("hyper.growth", "[hyper]\ngrowth = [10, 12]\n"),
        ("hyper.growth", "[hyper]\ngrowth = [10, 12, 0]\n"),
        ("hyper.layers", "[hyper]\nlayers = []\n"),
        ("smash.optimizer", "[smash.optimizer]\nbeta2 = 5.0\n"),
        ("space", "[space]\nwidening = 4096\n"),
    ] {
        let (_dir, path) = write(text);
        let error = RunConfig::resolve(&RunArgs { config: Some(path), ..RunArgs::default() }).unwrap_err();
        assert!(error.to_string().starts_with(key), "{error}");
        assert_eq!(error.exit_code(), 2, "{error}");
    }
    let huge = RunArgs { epochs: Some(u64::MAX), ..RunArgs::default() };
    assert_eq!(RunConfig::resolve(&huge).unwrap_err().exit_code(), 2);
    let error = RunConfig::resolve(&RunArgs { lr: Some(-1.0), ..RunArgs::default() }).unwrap_err();
    assert_eq!(error.to_string(), "lr: -1 is not a positive number");
    assert_eq!(error.exit_code(), 2);
}

/// A set of one image per split.
fn set(name: &str, shape: ImageShape, views: usize) -> Dataset {
    let images = || Images::from_pixels(vec![0; shape.pixels()], vec![0], shape).unwrap();
    let class_names = vec!["a".into()];
    Dataset { name: name.into(), train: images(), test: images(), shape, views, folds: Vec::new(), class_names }
}

#[test]
fn what_is_not_set_follows_from_the_images() {
    let cube = ImageShape { channels: 1, depth: 32, height: 32, width: 32 };
    let square = ImageShape::picture;
    for (set, size, stem, augment) in [
        (set("cifar-10", square(3, 32, 32), 1), 32, (7, 1), AugmentKind::CropFlip { pad: 4 }),
        (set("mnist", square(1, 28, 28), 1), 32, (7, 1), AugmentKind::Crop { pad: 4 }),
        (set("stl-10", square(3, 96, 96), 1), 96, (7, 2), AugmentKind::CropFlip { pad: 12 }),
        (set("arrays", square(3, 5, 9), 1), 16, (7, 1), AugmentKind::CropFlip { pad: 2 }),
        (set("modelnet10", cube, 24), 32, (3, 1), AugmentKind::Volume { views: 24 }),
    ] {
        let mut config = RunConfig::preset(Preset::V2);
        let input = config.settle(&set).unwrap();
        assert_eq!((input.size, (input.stem_kernel, input.stem_stride), input.augment), (size, stem, augment));
        assert_eq!(config.space.kernels, if set.shape.depth > 1 { vec![3] } else { vec![3, 5, 7] }, "{}", set.name);
        // What was settled is on record, and reading it back settles to the same.
        let (_dir, path) = write(&config.to_toml());
        let mut again = RunConfig::load(&path).unwrap();
        assert_eq!((again.settle(&set).unwrap(), again.differences(&config)), (input, vec![]));
    }
}

#[test]
fn settings_that_do_not_fit_the_images_are_named() {
    let cube = set("modelnet10", ImageShape { channels: 1, depth: 32, height: 32, width: 32 }, 24);
    let picture = set("cifar-10", ImageShape::picture(3, 32, 32), 1);
    let refused = |set: &Dataset, change: fn(&mut RunConfig)| {
        let mut config = RunConfig::preset(Preset::Small);
        change(&mut config);
        config.settle(set).unwrap_err().to_string()
    };
    let message = refused(&picture, |c| c.data.size = Some(28));
    assert_eq!(message, "data.size: 28 is smaller than the images (32 x 32)");
    let message = refused(&picture, |c| (c.data.size, c.stem_stride) = (Some(36), Some(2)));
    assert_eq!(message, "data.size: 36 is not a multiple of 8, as two halvings and the stem need");
    assert!(refused(&picture, |c| c.data.augment = Some(AugmentName::Volume)).contains("none, crop or crop-flip"));
    assert!(refused(&cube, |c| c.data.augment = Some(AugmentName::Crop)).contains("none or volume"));
    let poster = set("arrays", ImageShape::picture(1, 1032, 8), 1);
    assert!(refused(&poster, |_| ()).contains("1032 is more than 1024"));
    assert!(refused(&cube, |c| c.data.size = Some(64)).contains("not the size of the volumes (32 x 32 x 32)"));
    assert!(refused(&cube, |c| c.stem_stride = Some(2)).contains("volumes are not halved"));
}

/// An architecture file may name them too.
#[test]
fn the_spaces_of_the_presets_have_their_names() {
    use clap::ValueEnum;
    let named: Vec<&str> = Preset::value_variants().iter().map(|preset| preset.name()).collect();
    assert_eq!(named, Space::PRESETS);
    for preset in Preset::value_variants() {
        assert_eq!(Space::preset(preset.name()), Some(RunConfig::preset(*preset).space));
    }
}
