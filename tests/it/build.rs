//! The build script: the program that cargo made of `build.rs`, run on a small tree with an nvcc that
//! writes down how it is called.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the build script left when it built this very test.
mod built {
    include!(concat!(env!("OUT_DIR"), "/images.rs"));
}

/// A tree with three kernels, `a` and `b` that share a header, `c` that needs none.
struct Tree {
    root: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { root: tempfile::tempdir().unwrap() };
        tree.write("kernels/a.cu", "#include \"outer.cuh\"\n// a");
        tree.write("kernels/b.cu", "#include \"outer.cuh\"\n// b");
        tree.write("kernels/c.cu", "// c");
        tree.write("kernels/outer.cuh", "#include \"inner.cuh\"\n#include \"emu/cuda.h\"");
        tree.write("kernels/inner.cuh", "");
        tree.write("kernels/emu/cuda.h", "");
        tree.install("nvcc");
        tree
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside)
    }

    fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Puts the false nvcc there. A link: a script just written may be "busy" for a moment.
    fn install(&self, inside: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/nvcc.sh"), path).unwrap();
    }

    /// The build script as cargo starts it, in a clean environment.
    fn command(&self, profile: &str) -> Command {
        let out = self.path(&format!("target/{profile}/build/smash-engine-0123/out"));
        fs::create_dir_all(&out).unwrap();
        let mut command = Command::new(env!("SMASH_BUILD_SCRIPT"));
        command.env_clear().current_dir(&self.root).env("PATH", "/usr/bin:/bin").env("NUM_JOBS", "2");
        command.env("CARGO_MANIFEST_DIR", self.root.path()).env("OUT_DIR", out).env("CALLS", self.path("calls"));
        command.env("NVCC", self.path("nvcc"));
        command
    }

    /// Runs the script with these variables and returns what it said; it must succeed.
    fn build(&self, variables: &[(&str, &str)]) -> String {
        let output = self.command("release").envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the script with these variables; it must fail, without a panic. Returns its complaint.
    fn fail(&self, variables: &[(&str, &str)]) -> String {
        let output = self.command("release").envs(variables.iter().copied()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: "), "{said}");
        said
    }

    /// The calls of nvcc since this was asked last, in order of the file compiled.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        self.write("calls", "");
        let mut calls: Vec<String> = calls.lines().map(String::from).collect();
        calls.sort_by_key(|call| compiled(call));
        calls
    }

    /// The files compiled since this was asked last.
    fn compiled(&self) -> Vec<String> {
        self.calls().iter().map(|call| compiled(call)).collect()
    }

    fn images(&self, profile: &str) -> String {
        fs::read_to_string(self.path(&format!("target/{profile}/build/smash-engine-0123/out/images.rs"))).unwrap()
    }
}

/// The file that a call compiled.
fn compiled(call: &str) -> String {
    Path::new(call.split(' ').next_back().unwrap()).file_name().unwrap().to_str().unwrap().to_string()
}

fn warnings(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.starts_with("cargo::warning=")).collect()
}

#[test]
fn a_build_without_nvcc_warns_once_and_has_no_kernels() {
    let tree = Tree::new();
    let said = tree.build(&[("NVCC", "/nowhere/nvcc")]);
    let [warning] = warnings(&said)[..] else { panic!("not one warning:\n{said}") };
    assert!(warning.contains("looked at NVCC=/nowhere/nvcc)"), "{warning}");
    assert!(warning.contains("tools/setup-cuda.sh"), "{warning}");
    assert!(said.contains("cargo::rerun-if-env-changed=PATH\n"), "{said}");
    assert!(!said.contains("=kernels"), "an edited kernel changes nothing here:\n{said}");
    assert!(tree.images("release").contains("IMAGES: &[(&str, &[u8])] = &[\n];"));
    assert!(tree.images("release").contains("BUILT_WITH: &str = \"no nvcc\""));
}

#[test]
fn a_required_nvcc_must_be_there() {
    let tree = Tree::new();
    let complaint = tree.fail(&[("NVCC", "/nowhere/nvcc"), ("SMASH_REQUIRE_NVCC", "1")]);
    for part in ["looked at NVCC=/nowhere/nvcc", "SMASH_REQUIRE_NVCC", "tools/setup-cuda.sh"] {
        assert!(complaint.contains(part), "{complaint}");
    }
    tree.build(&[("SMASH_REQUIRE_NVCC", "1")]);
    tree.build(&[("NVCC", "/nowhere/nvcc"), ("SMASH_REQUIRE_NVCC", "0")]);
}

#[test]
fn nvcc_can_be_left_aside() {
    let tree = Tree::new();
    let said = tree.build(&[("SMASH_NO_NVCC", "1")]);
    assert!(warnings(&said).is_empty(), "{said}");
    assert!(tree.calls().is_empty());
    assert!(tree.images("release").contains("no nvcc"));
    let complaint = tree.fail(&[("SMASH_NO_NVCC", "1"), ("SMASH_REQUIRE_NVCC", "1")]);
    assert!(complaint.contains("exclude each other"), "{complaint}");
}

#[test]
fn documentation_needs_no_nvcc() {
    let tree = Tree::new();
    let said = tree.build(&[("DOCS_RS", "1")]);
    assert!(warnings(&said).is_empty() && tree.calls().is_empty(), "{said}");
    assert!(tree.images("release").contains("no nvcc"));
}

#[test]
fn a_build_writes_to_the_target_folder_only() {
    let tree = Tree::new();
    let there = |tree: &Tree| -> BTreeSet<PathBuf> {
        let folders = ["", "kernels", "kernels/emu"].map(|folder| fs::read_dir(tree.path(folder)).unwrap());
        folders.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    };
    let before = there(&tree);
    tree.build(&[]);
    let after = there(&tree);
    let new: Vec<&PathBuf> = after.difference(&before).collect();
    assert_eq!(new, [&tree.path("calls"), &tree.path("target")], "the list of calls is the false nvcc's");
}

#[test]
fn what_was_asked_for_comes_before_what_lies_about() {
    let tree = Tree::new();
    let places = ["nvcc", "home/bin/nvcc", "cuda/bin/nvcc", ".cuda/nvidia/cu13/bin/nvcc", "bin/nvcc"];
    places[1..].iter().for_each(|place| tree.install(place)); // the first is there
    for (index, place) in places.iter().enumerate() {
        let mut command = tree.command("release");
        // A version of its own makes every round compile.
        command.env("FAKE_VERSION", format!("13.0.{index}"));
        command.env("CUDA_HOME", tree.path("home")).env("CUDA_PATH", tree.path("cuda"));
        command.env("PATH", format!("{}:/usr/bin:/bin", tree.path("bin").display()));
        if index > 0 {
            command.env_remove("NVCC");
        }
        assert!(command.output().unwrap().status.success());
        let expected = tree.path(place).display().to_string();
        let calls = tree.calls();
        assert_eq!(calls.len(), 3);
        assert!(calls.iter().all(|call| call.starts_with(&expected)), "not {expected}: {calls:?}");
        fs::remove_file(tree.path(place)).unwrap();
    }
}

#[test]
fn every_kernel_becomes_code_for_each_architecture_and_ptx_of_the_last() {
    let tree = Tree::new();
    let said = tree.build(&[]);
    assert!(said.contains("cargo::rerun-if-changed=kernels\n"), "{said}");
    let calls = tree.calls();
    assert_eq!(calls.len(), 3);
    for call in &calls {
        for arch in ["80", "90", "100", "120"] {
            assert!(call.contains(&format!("-gencode=arch=compute_{arch},code=sm_{arch} ")), "{call}");
        }
        assert_eq!(call.matches("code=compute_").count(), 1, "{call}");
        assert!(call.contains("-gencode=arch=compute_120,code=compute_120 "), "{call}");
        assert!(call.contains("-Xfatbin -compress-all"), "{call}");
        assert!(!call.contains("-lineinfo") && !call.contains("-Werror"), "{call}");
    }
    for stem in ["a", "b", "c"] {
        let entry = format!("(\"{stem}\", include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{stem}.fatbin\")))");
        assert!(tree.images("release").contains(&entry));
        let image = tree.path(&format!("target/release/build/smash-engine-0123/out/{stem}.fatbin"));
        assert!(fs::read_to_string(image).unwrap().ends_with(&format!("// {stem}")));
    }
    assert!(tree.images("release").contains("nvcc 13.0.88 for sm_80, sm_90, sm_100, sm_120"));
}

#[test]
fn variables_choose_architectures_and_flags() {
    let tree = Tree::new();
    tree.build(&[("SMASH_CUDA_ARCHS", "75, 90"), ("SMASH_STRICT", "1"), ("SMASH_LINEINFO", "1"), ("NUM_JOBS", "6")]);
    for call in tree.calls() {
        assert!(call.contains("=arch=compute_75,code=sm_75 -gencode=arch=compute_90,code=sm_90 "), "{call}");
        assert_eq!(call.matches("-gencode").count(), 3, "{call}");
        assert!(call.contains("-Xptxas -warn-spills -Werror all-warnings -lineinfo "), "{call}");
        // Six jobs for three files.
        assert!(call.contains("--threads=2 "), "{call}");
    }
    for unusable in ["90,", "sm_90", "80;90"] {
        let complaint = tree.fail(&[("SMASH_CUDA_ARCHS", unusable)]);
        assert!(complaint.contains(&format!("SMASH_CUDA_ARCHS={unusable}")), "{complaint}");
    }
    assert!(tree.calls().is_empty());
}

#[test]
fn only_what_changed_is_compiled() {
    let tree = Tree::new();
    tree.build(&[]);
    assert_eq!(tree.compiled(), ["a.cu", "b.cu", "c.cu"]);
    tree.build(&[]);
    assert!(tree.compiled().is_empty(), "nothing changed");
    assert!(tree.command("debug").output().unwrap().status.success());
    assert!(tree.compiled().is_empty(), "profiles share the cache");
    assert_eq!(tree.images("debug"), tree.images("release"));

    tree.write("kernels/c.cu", "// c, edited");
    tree.build(&[]);
    assert_eq!(tree.compiled(), ["c.cu"]);
    tree.write("kernels/c.cu", "// c");
    tree.build(&[]);
    assert!(tree.compiled().is_empty(), "an edit undone");
    tree.write("kernels/inner.cuh", "// edited");
    tree.build(&[]);
    assert_eq!(tree.compiled(), ["a.cu", "b.cu"]);
    tree.write("kernels/emu/cuda.h", "// edited");
    tree.build(&[]);
    assert!(tree.compiled().is_empty(), "emu/ is not for nvcc");
    tree.build(&[("FAKE_VERSION", "13.1.0")]);
    assert_eq!(tree.compiled(), ["a.cu", "b.cu", "c.cu"]);

    let log = fs::read_to_string(tree.path("target/kernel-cache/last-build.log")).unwrap();
    assert!(log.starts_with("# nvcc 13.1.0 for sm_80"), "{log}");
    for stem in ["a", "b", "c"] {
        assert!(log.contains(&format!("== {stem}\nptxas info for ")), "{log}");
    }
}

#[test]
fn errors_of_kernels_reach_the_person_who_builds() {
    let tree = Tree::new();
    tree.write("kernels/a.cu", "a.cu(1): error: no such thing");
    tree.write("kernels/c.cu", "c.cu(1): error: nor this");
    let complaint = tree.fail(&[]);
    for part in ["kernels/a.cu", "error: no such thing", "kernels/c.cu", "error: nor this", "SMASH_NO_NVCC=1"] {
        assert!(complaint.contains(part), "{complaint}");
    }
    assert_eq!(tree.compiled(), ["a.cu", "b.cu", "c.cu"]);
    tree.write("kernels/a.cu", "error: Unsupported gpu architecture 'compute_120'");
    assert!(tree.fail(&[]).contains("SMASH_CUDA_ARCHS=80,90"));
    // b is in the cache, failures are not.
    assert_eq!(tree.compiled(), ["a.cu", "c.cu"]);
}

#[test]
fn warnings_of_kernels_are_seen_once() {
    let tree = Tree::new();
    tree.write("kernels/b.cu", "b.cu(1): warning: unused\nb.cu(2): warning: odd");
    let expected = ["cargo::warning=b.cu(1): warning: unused", "cargo::warning=b.cu(2): warning: odd"];
    assert_eq!(warnings(&tree.build(&[])), expected);
    assert!(warnings(&tree.build(&[])).is_empty(), "from the cache");
}

#[test]
fn this_build_holds_every_kernel_file_or_none() {
    let stems: Vec<&str> = built::IMAGES.iter().map(|(stem, _)| *stem).collect();
    if built::BUILT_WITH == "no nvcc" {
        assert!(stems.is_empty(), "{stems:?}");
        return;
    }
    let mut files: Vec<String> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".cu").map(String::from))
        .collect();
    files.sort();
    assert_eq!(stems, files);
    for (stem, image) in built::IMAGES {
        assert_eq!(image[..4], 0xBA55_ED50_u32.to_le_bytes(), "{stem} is no fatbin");
    }
}
