//! The engine's modules are layers; and what the check finds in made-up crates.

use lowland_structure::layers::Rules;
use lowland_structure::uses::{ForeignMethod, Uses, read};
use lowland_structure::{Source, sources, workspace};

#[test]
fn the_engine_is_layered() {
    let uses = read(&sources(&workspace().join("engine/src")));
    assert!(uses.modules.len() > 20 && uses.uses.len() > 300, "{} uses", uses.uses.len());
    let found = Rules::ENGINE.violations(&uses);
    assert!(found.is_empty(), "see tests/structure/src/layers.rs:\n{}", found.join("\n"));
}

#[test]
fn a_circle_planted_in_the_engine_is_found() {
    let mut files = sources(&workspace().join("engine/src"));
    files.push(Source::new("budget/planted.rs", "\nuse crate::run::embed;\n"));
    let found = Rules::ENGINE.violations(&read(&files));
    assert_eq!(found.len(), 2, "{}", found.join("\n"));
    assert_eq!(found[0], "budget/planted.rs:2: `budget` uses `run`, above it: crate::run::embed");
    assert!(found[1].starts_with("a circle: budget → run → budget\n    budget/planted.rs:2: "), "{}", found[1]);
}

/// Three modules, `low` below `middle` below `high`; `Low` and `Middle` are re-exported by the root.
const LIB: &str = "pub mod high;\nmod low;\nmod middle;\npub use low::{Low, deep::Deep as Other};\n\
                   pub use crate::middle::Middle;\n";

const RULES: Rules<'_> = Rules { layers: &[&["low"], &["middle", "other"], &["high"]], methods: &[], known: &[] };

/// A crate of `files` and of those of the three modules that are not among them.
fn uses(files: &[(&str, &str)]) -> Uses {
    let whole = [("lib.rs", LIB), ("low.rs", ""), ("middle/mod.rs", ""), ("other.rs", ""), ("high.rs", "")];
    let rest = whole.iter().filter(|(path, _)| !files.iter().any(|(other, _)| other == path));
    read(&files.iter().chain(rest).map(|(path, text)| Source::new(*path, *text)).collect::<Vec<_>>())
}

fn violations(files: &[(&str, &str)]) -> Vec<String> {
    RULES.violations(&uses(files))
}

/// The uses in `text`, the file `path`, as `user → used:line`.
fn found(path: &str, text: &str) -> Vec<String> {
    let uses = uses(&[(path, text)]);
    assert_eq!(uses.unclear, [""; 0]);
    let own = uses.uses.iter().filter(|u| u.place.starts_with(path));
    own.map(|u| format!("{} → {}:{}", u.from, u.to, u.place.rsplit(':').next().expect("a line"))).collect()
}

#[test]
fn uses_that_lead_down_are_no_violations() {
    let files = [
        ("high.rs", "use crate::low;\nuse crate::{Low, Middle};\n"),
        ("middle/mod.rs", "mod inner;\nuse crate::low::Low;\nuse self::inner::Inner;\n"),
        ("middle/inner.rs", "use super::Middle;\nuse super::super::low::Low;\n"),
    ];
    assert_eq!(violations(&files), [""; 0]);
}

#[test]
fn a_use_that_leads_up_names_its_line() {
    let found = violations(&[("low.rs", "// A comment.\nuse crate::high::run;\n")]);
    assert_eq!(found, ["low.rs:2: `low` uses `high`, above it: crate::high::run"]);
}

#[test]
fn a_use_that_leads_sideways_names_its_line() {
    let found = violations(&[("middle/inner.rs", "fn f() { crate::other::g() }\n")]);
    assert_eq!(found, ["middle/inner.rs:1: `middle` uses `other`, beside it: crate::other::g"]);
}

#[test]
fn a_circle_is_named_with_its_modules_and_lines() {
    let files = [
        ("high.rs", "use crate::middle::a;\nuse crate::middle::b;\n"),
        ("middle/mod.rs", "use crate::low;\n"),
        ("low.rs", "\nuse crate::high::run;\n"),
    ];
    let found = violations(&files);
    assert_eq!(
        found,
        [
            "low.rs:2: `low` uses `high`, above it: crate::high::run",
            "a circle: high → middle → low → high\n    high.rs:1: crate::middle::a\n    high.rs:2: crate::middle::b\n    \
             middle/mod.rs:1: crate::low\n    low.rs:2: crate::high::run",
        ]
    );
}

#[test]
fn the_shortest_circle_is_named() {
    let files = [
        ("high.rs", "use crate::middle::a;\nuse crate::low::a;\n"),
        ("middle/mod.rs", "use crate::low;\n"),
        ("low.rs", "use crate::high::run;\n"),
    ];
    let found = violations(&files);
    assert!(found[1].starts_with("a circle: high → low → high\n"), "{found:?}");
}

#[test]
fn what_only_tests_use_is_no_use() {
    for text in [
        "#[cfg(test)]\nuse crate::high::a;\n",
        "#[cfg(test)]\nuse crate::{high::{a, b}, middle::Middle};\n",
        "#[cfg(test)]\nmod tests {\n    use crate::high::a;\n    fn f() { crate::high::b() }\n}\n",
        "#[cfg(all(test, feature = \"cuda\"))]\n#[inline]\npub(crate) fn f() { crate::high::a() }\n",
        "#[cfg(test)]\nconst A: [u8; 2] = { crate::high::a() };\n",
        "#[cfg(test)]\npub(crate) const fn f() -> u8 { crate::high::a() }\n",
        "#[cfg(test)]\nimpl A { fn f() { crate::high::a() } }\n",
        "struct A {\n    #[cfg(test)]\n    b: crate::high::B,\n    c: u8,\n}\n",
        "fn f() {\n    #[cfg(test)]\n    crate::high::a();\n    #[cfg(test)]\n    { crate::high::a() }\n}\n",
        "#[test]\nfn f() { crate::high::a() }\n",
        "#![cfg(test)]\nuse crate::high::a;\n",
    ] {
        assert_eq!(found("low.rs", text), [""; 0], "{text}");
    }
    // What follows is not left out with it.
    for text in [
        "#[cfg(test)]\nmod tests;\nuse crate::high::a;\n",
        "#[cfg(test)]\nmod tests {}\nuse crate::high::a;\n",
        "#[cfg(test)]\nuse a::{b, c};\nuse crate::high::a;\n",
        "struct A {\n    #[cfg(test)] b: u8,\n    c: crate::high::B,\n}\n",
        "#[cfg(test)] const A: B = B { c: 0 };\n\nuse crate::high::a;\n",
        "#[cfg(any(test, feature = \"cuda\"))]\n\nuse crate::high::a;\n",
        "#[cfg(not(test))]\n\nuse crate::high::a;\n",
        "#[cfg(feature = \"test\")]\n\nuse crate::high::a;\n",
    ] {
        assert_eq!(found("low.rs", text), ["low → high:3"], "{text}");
    }
}

#[test]
fn the_files_of_a_test_module_are_left_out() {
    let files = [
        ("low.rs", "#[cfg(test)]\nmod tests;\n"),
        ("low/tests.rs", "mod deep;\nuse crate::high::a;\n"),
        ("low/tests/deep.rs", "use crate::high::a;\n"),
        ("middle/mod.rs", "#[cfg(test)]\nmod tests {\n    mod deep;\n}\n"),
        ("middle/tests/deep.rs", "use crate::high::a;\n"),
    ];
    assert_eq!(violations(&files), [""; 0]);
    let but = [files[1], files[2]];
    assert_eq!(violations(&but).len(), 2, "without the attribute both are uses");
}

#[test]
fn every_form_of_a_path_is_a_use() {
    for text in [
        "use crate::high;\n",
        "pub(crate) use crate::high as top;\n",
        "use crate::{high as top, low::Low};\n",
        "use {crate::high::a, std::fmt};\n",
        "use crate::{\n    low::{self, Low}, high::{self, a::{b, c as d}} };\n",
        "use crate::high::*;\n",
        "use super::high;\n",
        "use super::{high::a};\n",
        "pub use crate::high::a;\n",
        "fn f() { g(|| crate::high::a::<u8>(1)) }\n",
        "fn f(_: &crate::high::A) {}\n",
        "fn f() { println!(\"{}\", crate::high::a()) }\n",
        "macro_rules! m { () => { $crate::high::a() }; }\n",
        "#[cfg(feature = \"cuda\")] use crate::high::a;\n",
        "mod inner { use super::super::high::a; }\n",
        "mod inner { fn f() { super::super::high::a() } }\n",
        "fn f() { use crate::high::a; }\n",
        "impl crate::high::Trait for A {}\n",
        "pub fn f() -> impl crate::high::Trait {}\n",
    ] {
        let found = found("middle/mod.rs", text);
        let high: Vec<&String> = found.iter().filter(|u| u.starts_with("middle → high:")).collect();
        assert!(!high.is_empty(), "{text}: {found:?}");
    }
    // As long as the file is deep.
    assert_eq!(found("middle/inner.rs", "use super::super::high;\n"), ["middle → high:1"]);
    assert_eq!(found("middle/a/b.rs", "use super::super::super::high;\n"), ["middle → high:1"]);
}

#[test]
fn each_leaf_of_a_group_has_its_own_line() {
    let text = "use crate::{\n    high::{\n        a,\n        b as c,\n    },\n    low::Low,\n};\n";
    assert_eq!(found("middle/mod.rs", text), ["middle → high:3", "middle → high:4", "middle → low:6"]);
}

#[test]
fn what_is_no_path_of_another_module_is_no_use() {
    for text in [
        "//! [`crate::high::a`]\n/// crate::high\n// use crate::high;\n/* crate::high::a */\n",
        "fn f() { g(\"crate::high::a\", r#\"use crate::high;\"#) }\n",
        "#[doc = \"crate::high\"]\nfn f() {}\n",
        "mod high;\nuse self::high::a;\nfn f() { self::high::b() }\n",
        "mod high { fn a() {} }\nmod b { use super::high::a; }\n",
        "use std::high;\nuse other::crate_::high;\nfn f() { std::high::a(); high.a() }\n",
        "pub(crate) fn f() {}\npub(super) fn g() {}\npub(in crate::middle) fn h() {}\n",
        "impl A { fn f(self) { self.high() } }\n",
    ] {
        assert_eq!(found("middle/mod.rs", text), [""; 0], "{text}");
    }
    assert_eq!(found("middle/inner.rs", "use super::high;\nuse super::{high as a, low};\n"), [""; 0]);
}

#[test]
fn a_name_of_the_root_is_the_module_that_defines_it() {
    assert_eq!(found("high.rs", "use crate::Low;\n"), ["high → low:1"]);
    assert_eq!(found("high.rs", "use crate::{Other as Third, Middle};\n"), ["high → low:1", "high → middle:1"]);
    assert_eq!(
        found("high.rs", "fn f() -> super::Middle {\n    crate::Middle::new() }\n"),
        ["high → middle:1", "high → middle:2"]
    );
    assert_eq!(found("low.rs", "use crate::Low;\n"), [""; 0]);
    let found = violations(&[("low.rs", "use crate::Middle;\n")]);
    assert_eq!(found, ["low.rs:1: `low` uses `middle`, above it: crate::Middle"]);
}

#[test]
fn a_path_that_hides_its_module_is_refused() {
    for text in ["use crate::*;\n", "use super::*;\n", "use crate::unheard;\n", "fn f() { crate::unheard!() }\n"] {
        let found = violations(&[("low.rs", text)]);
        assert!(found.len() == 1 && found[0].contains("which module is that?"), "{text}: {found:?}");
    }
    assert_eq!(violations(&[("low.rs", "mod inner { use super::*; }\n")]), [""; 0]);
}

#[test]
fn a_visible_method_of_another_modules_type_is_refused() {
    let method = |line: usize| {
        let (module, name) = ("high".to_string(), "Low::f".to_string());
        [ForeignMethod { module, name, place: format!("high.rs:{line}") }]
    };
    for text in [
        "use crate::low::Low;\nimpl Low { pub fn f() {} fn g() {} }\n",
        "use crate::Low;\nimpl Low { pub(crate) const fn f() {} }\n",
        "use crate::low::Low;\nimpl<T: Fn() -> u8> Low<T> where T: Copy { pub fn f() {} }\n",
        "\nimpl crate::low::Low { pub fn f() {} }\n",
        "use crate::low;\nimpl low::Low { pub fn f() {} }\n",
    ] {
        assert_eq!(uses(&[("high.rs", text)]).methods, method(2), "{text}");
    }
    // `pub(super)` in a submodule does not reach outside of the module.
    let parent =
        |path: &str| uses(&[("high.rs", "mod inner;\n"), (path, "impl crate::Low { pub(super) fn f() {} }\n")]);
    assert_eq!(parent("high/inner.rs").methods.len(), 0);
    let outside = uses(&[("high.rs", "impl crate::Low { pub(super) fn f() {} }\n")]);
    assert_eq!(outside.methods.len(), 1);
    let inner = uses(&[
        ("high.rs", "use crate::low::Low;\n"),
        ("high/inner.rs", "use super::Low;\nimpl Low { pub fn f() {} }"),
    ]);
    assert_eq!(inner.methods.len(), 1, "{:?}", inner.methods);
    for text in [
        "use crate::low::Low;\nimpl Low { fn f() { pub_() } }\n",
        "use crate::low::{Low, Trait};\nimpl Trait for Low { fn f() {} }\n",
        "use crate::low::Trait;\nstruct A;\nimpl<T> Trait for A { fn f() {} }\nimpl A { pub fn f() {} }\n",
    ] {
        assert_eq!(uses(&[("high.rs", text)]).methods, [], "{text}");
    }
    let files = [("high.rs", "use crate::Low;\nimpl Low { pub fn f() {} }\n")];
    let found = RULES.violations(&uses(&files));
    assert!(found.len() == 1 && found[0].contains("Low::f"), "{found:?}");
    let allowed = Rules { methods: &[("Low::f", "it begins everything")], ..RULES };
    assert_eq!(allowed.violations(&uses(&files)), [""; 0]);
    assert_eq!(allowed.violations(&uses(&[])), ["there is no method Low::f of another module's type; remove it"]);
}

#[test]
fn the_layers_and_the_known_uses_are_exact() {
    let short = Rules { layers: &[&["low"], &["middle"], &["high"]], ..RULES };
    assert_eq!(short.violations(&uses(&[])), ["`other` is in no layer; add it"]);
    let long = Rules { layers: &[&["low"], &["middle", "other"], &["high", "sky"]], ..RULES };
    assert_eq!(long.violations(&uses(&[])), ["there is no module `sky`; remove it"]);

    let known = Rules { known: &[("low", "high")], ..RULES };
    assert_eq!(known.violations(&uses(&[("low.rs", "use crate::high::a;\n")])), [""; 0]);
    assert_eq!(known.violations(&uses(&[("low.rs", "use crate::middle::a;\n")])).len(), 2, "a new one, and none of it");
    assert_eq!(known.violations(&uses(&[])), ["`low` no longer uses `high`; remove it from the known uses"]);
    let down = Rules { known: &[("high", "low")], ..RULES };
    let found = down.violations(&uses(&[("high.rs", "use crate::low::a;\n")]));
    assert_eq!(found, ["`high` may use `low`; remove it from the known uses"]);
}
