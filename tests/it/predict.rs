//! `predict` as a user meets it: the probabilities of files are those of the network's own images, and what is no
//! picture is named.

use crate::formats::{idx_images, png};
use crate::scene::{DATA_FILES, SIDE, Scene};
use serde_json::Value;

/// A finished run whose winner is exported, and its id.
fn exported() -> (Scene, String) {
    let scene = Scene::finished();
    scene.stdout("export --out run --to net");
    let id = scene.json("eval --network net")["architecture"].as_str().unwrap().to_string();
    (scene, id)
}

/// The test images of the scene as grey or coloured PNG files, and larger ones around the same pixels.
fn pictures(scene: &Scene) -> Vec<String> {
    let images = std::fs::read(scene.path("data").join(DATA_FILES[2])).unwrap();
    let images = images[16..].chunks(SIDE * SIDE);
    std::fs::create_dir_all(scene.path("photos/more")).unwrap();
    let write = |(i, image): (usize, &[u8])| {
        let name = format!("photos/{}{i:02}.png", ["", "more/"][i % 2]);
        let bytes = match i % 3 {
            0 => png(SIDE, SIDE, 1, image),
            1 => png(SIDE, SIDE, 3, &image.iter().flat_map(|&pixel| [pixel; 3]).collect::<Vec<_>>()),
            // Two columns at each side are not of the middle square.
            _ => {
                let rows = image.chunks(SIDE).map(|row| [&[9; 2], row, &[99; 2]].concat());
                png(SIDE + 4, SIDE, 1, &rows.collect::<Vec<_>>().concat())
            }
        };
        std::fs::write(scene.path(&name), bytes).unwrap();
        name
    };
    images.enumerate().map(write).collect()
}

/// Rows of a .npy file of ten columns.
fn logits(bytes: &[u8]) -> Vec<Vec<f64>> {
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values: Vec<f64> =
        bytes[start..].chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
    values.chunks(10).map(<[f64]>::to_vec).collect()
}

#[test]
fn files_get_the_probabilities_of_the_same_images_in_the_data_set() {
    let (scene, id) = exported();
    let names = pictures(&scene);
    scene.stdout("eval --network net --logits logits.npy");
    let rows = logits(&std::fs::read(scene.path("logits.npy")).unwrap());
    let found = scene.json(&format!("predict net/model.safetensors {} --top 99", names.join(" ")));
    assert_eq!(found["network"], id);
    let images = found["images"].as_array().unwrap();
    assert_eq!((images.len(), rows.len()), (100, 100));
    for ((image, name), row) in images.iter().zip(&names).zip(&rows) {
        assert_eq!(image["file"].as_str(), Some(name.as_str()));
        let guesses = image["classes"].as_array().unwrap();
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        let mut last = 1.0;
        for guess in guesses {
            let (number, probability) = (guess["number"].as_u64().unwrap(), guess["probability"].as_f64().unwrap());
            assert!((probability - row[number as usize].exp() / sum).abs() < 1e-5, "{name}: {guess}");
            assert!(probability <= last, "the best first");
            last = probability;
        }
        assert_eq!(guesses.len(), 10);
    }
}

#[test]
fn folders_are_read_whole_in_the_order_of_their_names() {
    let (scene, _) = exported();
    let mut names = pictures(&scene);
    names.sort();
    let found = scene.json("predict net photos");
    let images: &Vec<Value> = found["images"].as_array().unwrap();
    assert_eq!(images.iter().map(|image| image["file"].as_str().unwrap()).collect::<Vec<_>>(), names);
    let text = scene.stdout("predict net photos --top 1");
    for (line, image) in text.lines().zip(images) {
        let guess = &image["classes"][0];
        let expected = [image["file"].as_str().unwrap(), guess["class"].as_str().unwrap()];
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), expected);
        assert!(line.ends_with(&format!("{:.1} %", 100.0 * guess["probability"].as_f64().unwrap())), "{line}");
    }
    assert_eq!(text.lines().count(), 100);
    // Each picture by itself is what it is among the others.
    let alone = scene.json(&format!("predict net {}", names[7]));
    assert_eq!(alone["images"][0], images[7]);
}

#[test]
fn what_is_no_picture_and_what_is_no_network_is_named() {
    let (scene, _) = exported();
    let good = png(SIDE, SIDE, 1, &idx_images(1, SIDE, SIDE)[16..]);
    std::fs::write(scene.path("good.png"), &good).unwrap();
    std::fs::write(scene.path("bad.png"), &good[..good.len() - 20]).unwrap();
    std::fs::create_dir(scene.path("empty")).unwrap();
    for (line, status, says) in [
        ("predict net good.png bad.png", 3, "bad.png: bad PNG"),
        ("predict net settings.toml", 3, "settings.toml: is neither a PNG nor a JPEG"),
        ("predict net empty", 3, "empty: holds no files that end in .png, .jpg or .jpeg"),
        ("predict net none.png", 1, "cannot read none.png"),
        ("predict nets good.png", 1, "cannot read nets"),
        ("predict settings.toml good.png", 3, "settings.toml: "),
        ("predict run good.png", 3, "run: holds no model.safetensors; name a folder that"),
    ] {
        let message = scene.complaint(line, status);
        assert!(message.contains(says), "{line}: {message}");
    }
    let output = scene.output("predict net good.png --top 0");
    assert_eq!(output.status.code(), Some(2));
}
