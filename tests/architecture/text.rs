//! Source as text: comments and literals are blanked, the rest is cut into tokens, and paths are made
//! absolute. What it is not: a compiler.

/// The text with comments and literals replaced by blanks.
pub(crate) fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut index = 0;
    while index < chars.len() {
        let is_word_before = index > 0 && is_word(at(index - 1));
        let end = match at(index) {
            '/' if at(index + 1) == '/' => find(&chars, index, |i| at(i) == '\n'),
            '/' if at(index + 1) == '*' => end_of_block_comment(&chars, index),
            'r' | 'b' | 'c' if !is_word_before => end_of_prefixed_string(&chars, index),
            '"' => end_of_string(&chars, index),
            // A quote begins a character when it is closed behind one, else a lifetime.
            '\'' if at(index + 1) == '\\' => find(&chars, index + 3, |i| at(i) == '\'') + 1,
            '\'' if at(index + 2) == '\'' => index + 3,
            _ => index,
        };
        if end > index {
            out.push(' ');
            index = end;
        } else {
            out.push(at(index));
            index += 1;
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find(chars: &[char], from: usize, is_end: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|&index| is_end(index)).unwrap_or(chars.len())
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut index = start;
    while index < chars.len() {
        match (chars[index], chars.get(index + 1)) {
            ('/', Some('*')) => (depth, index) = (depth + 1, index + 2),
            ('*', Some('/')) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn end_of_string(chars: &[char], quote: usize) -> usize {
    let mut index = quote + 1;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    (index + 1).min(chars.len())
}

/// The end of `r"…"`, `r#"…"#`, `b"…"` and the like; `start` when none begins here.
fn end_of_prefixed_string(chars: &[char], start: usize) -> usize {
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut index = find(chars, start, |i| !matches!(chars[i], 'r' | 'b' | 'c'));
    let is_raw = chars[start..index].contains(&'r');
    let hashes = find(chars, index, |i| chars[i] != '#') - index;
    index += hashes;
    if at(index) != '"' || index - start > 8 || (hashes > 0 && !is_raw) {
        return start;
    }
    if !is_raw {
        return end_of_string(chars, index);
    }
    let closes = |i: usize| at(i) == '"' && (1..=hashes).all(|hash| at(i + hash) == '#');
    (find(chars, index + 1, closes) + 1 + hashes).min(chars.len())
}

/// Words, `::`, and single other characters.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut is_in_word = false;
    for c in text.chars() {
        match tokens.last_mut() {
            Some(last) if is_word(c) && is_in_word => last.push(c),
            Some(last) if c == ':' && last == ":" => last.push(c),
            _ if c.is_whitespace() => {}
            _ => tokens.push(c.to_string()),
        }
        is_in_word = is_word(c);
    }
    tokens
}

/// All absolute paths in a file of `module`: `crate::…`, or a crate's name and what follows.
pub(crate) fn paths(module: &[String], text: &str) -> Vec<String> {
    let tokens = tokens(&blanked(text));
    let mut found = Vec::new();
    // Inline modules, with the depth of braces at which each ends.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let next = |ahead: usize| tokens.get(index + ahead).map_or("", String::as_str);
        let is_start = index == 0 || tokens[index - 1] != "::";
        match token.as_str() {
            "mod" if next(2) == "{" => {
                inline.push((next(1).to_owned(), depth));
                depth += 1;
                index += 2;
            }
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline.pop_if(|(_, end)| *end == depth);
            }
            root if is_start && next(1) == "::" && root.starts_with(is_word) => {
                let here = module.iter().chain(inline.iter().map(|(name, _)| name)).cloned();
                let here: Vec<String> = std::iter::once("crate".to_owned()).chain(here).collect();
                index = follow(&tokens, index, &here, &[], &mut found);
                continue;
            }
            _ => {}
        }
        index += 1;
    }
    found
}

/// Reads one path or group of paths; returns the index behind it.
fn follow(
    tokens: &[String],
    mut index: usize,
    here: &[String],
    before: &[String],
    found: &mut Vec<String>,
) -> usize {
    let at = |index: usize| tokens.get(index).map_or("", String::as_str);
    let mut path = before.to_vec();
    loop {
        match at(index) {
            "{" => {
                index += 1;
                while !matches!(at(index), "}" | "") {
                    let behind = follow(tokens, index, here, &path, found);
                    // `as name` and commas lie between two paths of a group.
                    index = find_token(tokens, behind.max(index), |t| matches!(t, "," | "}"));
                    index += usize::from(at(index) == ",");
                }
                return index + 1;
            }
            "self" if path.is_empty() => path = here.to_vec(),
            "super" => {
                if path.is_empty() {
                    path = here.to_vec();
                }
                path.pop();
            }
            "self" => {}
            word if word == "*" || word.starts_with(is_word) => path.push(word.to_owned()),
            // The `::` of a turbofish.
            _ => break,
        }
        index += 1;
        if at(index) != "::" {
            break;
        }
        index += 1;
    }
    found.push(path.join("::"));
    index
}

fn find_token(tokens: &[String], from: usize, is_end: impl Fn(&str) -> bool) -> usize {
    (from..tokens.len()).find(|&index| is_end(&tokens[index])).unwrap_or(tokens.len())
}
