//! Reads the tokens of a file: the paths in it, its inherent `impl`s, and its modules that are only for tests.

use proc_macro2::{Delimiter, TokenTree};

/// A path of a `use` declaration or of an expression or type.
pub(crate) struct Found {
    /// As written; a `self` at the end of a group is left out.
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// The name that the path has after `as`.
    pub(crate) renamed: Option<String>,
    /// Whether it is of a `use` declaration.
    pub(crate) import: bool,
    /// The module that contains it.
    pub(crate) here: Vec<String>,
}

/// An inherent `impl` and the methods in it that are not private.
pub(crate) struct Impl {
    /// The path of the type, as written.
    pub(crate) of: Vec<String>,
    pub(crate) methods: Vec<(String, usize)>,
    pub(crate) here: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) paths: Vec<Found>,
    pub(crate) impls: Vec<Impl>,
    /// Modules that are compiled only for tests.
    pub(crate) tests: Vec<Vec<String>>,
}

impl Reader {
    /// Reads `tokens`, which are in module `here`; `items`: whether they are items, and not a body or arguments.
    pub(crate) fn walk(&mut self, tokens: &[TokenTree], here: &[String], items: bool) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Punct(p) if p.as_char() == '#' => {
                    let inner = is_punct(tokens.get(at + 1), '!');
                    let attribute = tokens.get(at + 1 + usize::from(inner));
                    if let Some(attribute) = group(attribute, Delimiter::Bracket) {
                        if is_of_tests(&attribute) {
                            if inner {
                                // Of a whole file or body.
                                self.tests.extend(items.then(|| here.to_vec()));
                                return;
                            }
                            at = self.skip_item(tokens, at + 2, here);
                            continue;
                        }
                        // Attributes name no modules of ours.
                        at += 2 + usize::from(inner);
                        continue;
                    }
                }
                TokenTree::Ident(word) => {
                    let word = word.to_string();
                    if word == "use" && !is_punct(tokens.get(at + 1), '<') {
                        at = self.import(tokens, at + 1, &[], here);
                        continue;
                    }
                    if word == "mod"
                        && let (Some(TokenTree::Ident(name)), Some(body)) =
                            (tokens.get(at + 1), group(tokens.get(at + 2), Delimiter::Brace))
                    {
                        self.walk(&body, &within(here, &name.to_string()), true);
                        at += 3;
                        continue;
                    }
                    if word == "impl" && items {
                        self.inherent(&tokens[at + 1..], here);
                    }
                    let begins = ["crate", "super", "self"].contains(&word.as_str()) && is_path(tokens, at + 1);
                    let continues = at >= 2 && is_path(tokens, at - 2);
                    if begins && !continues {
                        at = self.path(tokens, at, here);
                        continue;
                    }
                }
                TokenTree::Group(g) => self.walk(&g.stream().into_iter().collect::<Vec<_>>(), here, false),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    /// Reads a path of an expression or a type; gives the place after it.
    fn path(&mut self, tokens: &[TokenTree], mut at: usize, here: &[String]) -> usize {
        let (mut segments, mut line) = (Vec::new(), 0);
        while let Some(TokenTree::Ident(word)) = tokens.get(at) {
            segments.push(word.to_string());
            line = word.span().start().line;
            at += 1;
            if !is_path(tokens, at) || !matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))) {
                break;
            }
            at += 2;
        }
        self.paths.push(Found { segments, line, renamed: None, import: false, here: here.to_vec() });
        at
    }

    /// Reads one tree of a `use` declaration that begins at `at`, below the path `before`; gives the place after it.
    fn import(&mut self, tokens: &[TokenTree], mut at: usize, before: &[String], here: &[String]) -> usize {
        let (mut segments, mut line) = (before.to_vec(), 0);
        let mut renamed = None;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Ident(word) if word == "as" => {
                    renamed = tokens.get(at + 1).map(ToString::to_string);
                    at += 2;
                }
                TokenTree::Ident(word) => {
                    line = word.span().start().line;
                    // `a::{self}` is `a`, but `self::a` is not.
                    if word != "self" || segments.is_empty() {
                        segments.push(word.to_string());
                    }
                    at += 1;
                }
                TokenTree::Punct(p) if p.as_char() == ':' => at += 1,
                TokenTree::Punct(p) if p.as_char() == '*' => {
                    line = p.span().start().line;
                    segments.push("*".into());
                    at += 1;
                }
                TokenTree::Group(g) if g.delimiter() == Delimiter::Brace => {
                    let trees: Vec<TokenTree> = g.stream().into_iter().collect();
                    let mut inner = 0;
                    while inner < trees.len() {
                        inner = self.import(&trees, inner, &segments, here);
                    }
                    // The group's own path is that of its trees.
                    while at < tokens.len() && !is_punct(tokens.get(at), ',') && !is_punct(tokens.get(at), ';') {
                        at += 1;
                    }
                    return at + 1;
                }
                // The end of the tree (`,`) or of the declaration (`;`).
                _ => {
                    at += 1;
                    break;
                }
            }
        }
        if !segments.is_empty() {
            self.paths.push(Found { segments, line, renamed, import: true, here: here.to_vec() });
        }
        at
    }

    /// Reads what follows `impl`; an `impl` of a trait is left out.
    fn inherent(&mut self, tokens: &[TokenTree], here: &[String]) {
        let (mut of, mut depth) = (Vec::new(), 0usize);
        for (at, token) in tokens.iter().enumerate() {
            match token {
                // The `>` of `->` closes nothing.
                TokenTree::Punct(p) if p.as_char() == '>' => {
                    depth = depth
                        .saturating_sub(usize::from(!is_punct(at.checked_sub(1).and_then(|i| tokens.get(i)), '-')));
                }
                TokenTree::Punct(p) if p.as_char() == '<' => depth += 1,
                TokenTree::Ident(word) if depth == 0 && word == "for" => return,
                TokenTree::Ident(word) if depth == 0 && word == "where" => depth = 1,
                TokenTree::Ident(word) if depth == 0 => of.push(word.to_string()),
                TokenTree::Group(g) if g.delimiter() == Delimiter::Brace => {
                    if !of.is_empty() {
                        let body: Vec<TokenTree> = g.stream().into_iter().collect();
                        self.impls.push(Impl {
                            of,
                            methods: visible_functions(&body, here.len()),
                            here: here.to_vec(),
                        });
                    }
                    return;
                }
                TokenTree::Punct(p) if p.as_char() == ';' => return,
                _ => {}
            }
        }
    }

    /// The place after the item that begins at `at`, which is compiled only for tests.
    fn skip_item(&mut self, tokens: &[TokenTree], mut at: usize, here: &[String]) -> usize {
        while is_punct(tokens.get(at), '#') {
            at += 2;
        }
        let mut keyword = None;
        for (place, token) in tokens.iter().enumerate().skip(at) {
            match token {
                TokenTree::Ident(word) if keyword.is_none() => {
                    let word = word.to_string();
                    match word.as_str() {
                        "pub" | "async" | "unsafe" => {}
                        // Of a function, where one of these follows.
                        "const" | "extern"
                            if tokens.get(place + 1).is_some_and(|next| {
                                matches!(next, TokenTree::Literal(_) | TokenTree::Group(_))
                                    || ["fn", "unsafe", "async", "extern"].contains(&next.to_string().as_str())
                            }) => {}
                        _ => keyword = Some(word),
                    }
                    if keyword.as_deref() == Some("mod")
                        && let Some(name) = tokens.get(place + 1)
                    {
                        self.tests.push(within(here, &name.to_string()));
                    }
                }
                TokenTree::Punct(p) if p.as_char() == ';' => return place + 1,
                // The end of a field, a variant, an argument or an arm.
                TokenTree::Punct(p) if p.as_char() == ',' && !is_item(keyword.as_deref()) => return place + 1,
                TokenTree::Group(g) if g.delimiter() == Delimiter::Brace && !ends_at_semicolon(keyword.as_deref()) => {
                    return place + 1;
                }
                _ => {}
            }
        }
        tokens.len()
    }
}

fn is_item(keyword: Option<&str>) -> bool {
    matches!(keyword, Some("fn" | "mod" | "impl" | "struct" | "enum" | "union" | "trait" | "macro_rules"))
        || ends_at_semicolon(keyword)
}

fn ends_at_semicolon(keyword: Option<&str>) -> bool {
    matches!(keyword, Some("use" | "const" | "static" | "type" | "let" | "extern"))
}

fn is_punct(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == mark)
}

/// Whether `::` is at `at`.
fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match token {
        Some(TokenTree::Group(g)) if g.delimiter() == delimiter => Some(g.stream().into_iter().collect()),
        _ => None,
    }
}

/// Whether an attribute, given without its brackets, leaves its item to tests: `test`, or a `cfg` that holds only
/// in tests.
fn is_of_tests(attribute: &[TokenTree]) -> bool {
    match attribute {
        [TokenTree::Ident(word)] => word == "test",
        [TokenTree::Ident(word), TokenTree::Group(g)] if word == "cfg" => {
            holds_only_in_tests(&g.stream().into_iter().collect::<Vec<_>>())
        }
        _ => false,
    }
}

fn holds_only_in_tests(condition: &[TokenTree]) -> bool {
    match condition {
        [TokenTree::Ident(word)] => word == "test",
        [TokenTree::Ident(word), TokenTree::Group(g)] => {
            let inner: Vec<TokenTree> = g.stream().into_iter().collect();
            let mut parts = inner.split(|token| is_punct(Some(token), ',')).filter(|part| !part.is_empty());
            match word.to_string().as_str() {
                "all" => parts.any(holds_only_in_tests),
                "any" => parts.all(holds_only_in_tests),
                _ => false,
            }
        }
        _ => false,
    }
}

/// The functions in the body of an `impl` that are visible outside their top-level module, each with its line. `depth`
/// is the number of modules around the `impl`: in a submodule, `pub(super)` does not reach further than its parent.
fn visible_functions(body: &[TokenTree], depth: usize) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut visible = false;
    for (at, token) in body.iter().enumerate() {
        match token {
            TokenTree::Ident(word) if word == "pub" => {
                let within_parent = matches!(
                    body.get(at + 1),
                    Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Parenthesis && g.stream().to_string() == "super"
                );
                visible = !(within_parent && depth >= 2);
            }
            TokenTree::Ident(word) if word == "fn" => {
                if let (true, Some(TokenTree::Ident(name))) = (visible, body.get(at + 1)) {
                    found.push((name.to_string(), name.span().start().line));
                }
                visible = false;
            }
            TokenTree::Group(g) if g.delimiter() == Delimiter::Brace => visible = false,
            TokenTree::Punct(p) if p.as_char() == ';' => visible = false,
            _ => {}
        }
    }
    found
}

/// The path of `name` in module `here`.
pub(crate) fn within(here: &[String], name: &str) -> Vec<String> {
    here.iter().cloned().chain([name.to_string()]).collect()
}
