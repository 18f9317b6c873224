//! The names that one file declares, imports, defines and uses.

use std::collections::BTreeSet;

use super::tokens::{is_word, tokens};

/// One leaf of a `use` tree.
pub(super) struct Use {
    /// That of a glob ends in its star.
    pub(super) path: Vec<String>,
    /// The name that the file knows it by; nothing for a glob.
    pub(super) name: Option<String>,
    /// `pub use`: hands a name on. The file depends on it only if its own code names it.
    pub(super) handed_on: bool,
}

#[derive(Default)]
pub(super) struct Source {
    pub(super) children: BTreeSet<String>,
    pub(super) uses: Vec<Use>,
    /// Items at the top level of the file.
    pub(super) defined: BTreeSet<String>,
    /// Paths in code, single names that can be those of items among them.
    pub(super) paths: BTreeSet<Vec<String>>,
}

impl Source {
    pub(super) fn of(text: &str) -> Self {
        let tokens = tokens(text);
        let mut source = Self::default();
        let (mut at, mut depth) = (0, 0_usize);
        while at < tokens.len() {
            match tokens[at] {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            at = source.take(&tokens, at, depth);
        }
        source
    }

    /// The import by which the file knows a name.
    pub(super) fn import(&self, name: &str) -> Option<&Use> {
        self.uses.iter().find(|leaf| leaf.name.as_deref() == Some(name))
    }

    /// Takes in what begins at a token; returns where the next begins.
    fn take(&mut self, tokens: &[&str], at: usize, depth: usize) -> usize {
        let next = |ahead: usize| tokens.get(at + ahead).copied().unwrap_or_default();
        let before = |back: usize| at.checked_sub(back).map_or("", |before| tokens[before]);
        match tokens[at] {
            "use" if next(1) != "<" => return self.take_use(tokens, at),
            "mod" => {
                assert!(next(2) == ";", "the module {} has no file of its own", next(1));
                self.children.insert(next(1).to_owned());
                return at + 3;
            }
            word if !is_word(word) || before(1) == "::" => {}
            _ if before(1) == "." && before(2) != "." => {}
            _ if next(1) == "::" => return self.take_path(tokens, at),
            word if depth == 0 && defines(before(1), before(2)) => {
                self.defined.insert(word.to_owned());
            }
            word if before(1) != "fn" && can_be_item(word, next(1)) => {
                self.paths.insert(vec![word.to_owned()]);
            }
            _ => {}
        }
        at + 1
    }

    fn take_use(&mut self, tokens: &[&str], at: usize) -> usize {
        let handed_on = at > 0 && matches!(tokens[at - 1], "pub" | ")");
        let end = tokens[at..].iter().position(|token| *token == ";").expect("a use ends") + at;
        let mut rest = tokens[at + 1..end].iter().copied();
        let mut leaves = Vec::new();
        tree(&mut rest, &[], &mut leaves);
        self.uses.extend(leaves.into_iter().map(|(path, name)| Use { path, name, handed_on }));
        end + 1
    }

    fn take_path(&mut self, tokens: &[&str], at: usize) -> usize {
        let mut path = vec![tokens[at].to_owned()];
        let mut end = at + 1;
        while let [colons, word, ..] = tokens[end..]
            && colons == "::"
            && is_word(word)
        {
            path.push(word.to_owned());
            end += 2;
        }
        self.paths.insert(path);
        end
    }
}

fn defines(keyword: &str, before: &str) -> bool {
    let keywords = ["struct", "enum", "union", "trait", "type", "const", "static", "fn"];
    keywords.contains(&keyword) || (keyword, before) == ("!", "macro_rules")
}

/// A lower-case word is a variable or a field unless it is called.
fn can_be_item(word: &str, next: &str) -> bool {
    word.starts_with(char::is_uppercase) || matches!(next, "(" | "!")
}

/// Reads one branch of a `use` tree, to its comma, closing brace or end; returns what ended it.
fn tree<'a>(
    tokens: &mut impl Iterator<Item = &'a str>,
    prefix: &[String],
    leaves: &mut Vec<(Vec<String>, Option<String>)>,
) -> &'a str {
    let (mut path, mut name, mut empty) = (prefix.to_vec(), None, true);
    loop {
        let token = tokens.next().unwrap_or_default();
        match token {
            "," | "}" | "" if empty => return token,
            "," | "}" | "" => {
                let name = name.or_else(|| path.last().cloned());
                leaves.push((path, name));
                return token;
            }
            "{" => {
                while tree(tokens, &path, leaves) == "," {}
                return tokens.next().unwrap_or_default();
            }
            "*" => {
                path.push("*".to_owned());
                leaves.push((path, None));
                return tokens.next().unwrap_or_default();
            }
            // Another crate, even where this one has a module of that name.
            "::" if path.is_empty() => path.push(String::new()),
            "self" if !path.is_empty() => empty = false,
            "::" => {}
            "as" => name = tokens.next().map(str::to_owned),
            word => {
                path.push(word.to_owned());
                empty = false;
            }
        }
    }
}
