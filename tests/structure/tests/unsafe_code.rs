//! `unsafe` is only in the files of the list.

use lowland_structure::unsafe_code::{FILES, lines, violations};
use lowland_structure::{Source, sources, workspace};

#[test]
fn unsafe_code_is_only_in_the_files_of_the_list() {
    let mut files = Vec::new();
    for dir in ["src", "engine", "io", "python", "datasets", "benches", "examples", "tests"] {
        let found = sources(&workspace().join(dir)).into_iter();
        files.extend(found.map(|file| Source::new(format!("{dir}/{}", file.path), file.text)));
    }
    assert!(files.len() > 200, "{} files", files.len());
    let found = violations(&files, FILES);
    assert!(found.is_empty(), "see tests/structure/src/unsafe_code.rs:\n{}", found.join("\n"));
    assert!(FILES.is_sorted(), "the list is in order");
}

#[test]
fn comments_and_strings_are_no_unsafe_code() {
    let file = Source::new(
        "a.rs",
        "//! unsafe\n/// unsafe\nfn f() { /* unsafe { */ let _ = (\"unsafe {\", r#\"unsafe\"#, b\"unsafe\", c\"unsafe\"); }\n\
         #[expect(unsafe_code, reason = \"unsafe\")]\nfn g<'unsafe_>() {}\n",
    );
    assert_eq!(lines(&file), [0usize; 0]);
}

#[test]
fn every_form_of_unsafe_code_is_found() {
    let text = "unsafe fn f() {}\nunsafe trait T {}\nunsafe impl T for () {}\nfn g() {\n    unsafe { f() }\n}\n\
                macro_rules! m {\n    () => { unsafe { f() } };\n}\n#[unsafe(no_mangle)]\nfn h() {}\n";
    assert_eq!(lines(&Source::new("a.rs", text)), [1, 2, 3, 5, 8, 10]);
}

#[test]
fn a_file_beside_the_list_and_one_without_need_are_violations() {
    let files = [
        Source::new("a.rs", "fn f() { unsafe { g() } }"),
        Source::new("b.rs", "fn f() {}"),
        Source::new("c.rs", "\nunsafe fn g() {}"),
    ];
    let allowed = [("a.rs", "FFI"), ("b.rs", "FFI"), ("d.rs", "FFI")];
    assert_eq!(
        violations(&files, &allowed),
        [
            "b.rs has no `unsafe`; remove it from the list",
            "c.rs:2: `unsafe` in a file that is not in the list",
            "there is no d.rs; remove it from the list",
        ]
    );
}
