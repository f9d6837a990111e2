//! Which packages this program is built from: licences, origins, two versions of one package, and programs
//! that run during a build. The rules are in `.cargo/deny.toml`, which `cargo deny check` reads too. This
//! test needs no network and no further tool. What it cannot know: advisories, yanked versions, and the
//! licences of packages that only another platform or an optional feature builds.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const CRATES_IO: &str = "https://github.com/rust-lang/crates.io-index";

/// What `.cargo/deny.toml` allows.
#[derive(Debug, Default)]
struct Rules {
    licences: BTreeSet<String>,
    registries: BTreeSet<String>,
    banned: BTreeSet<String>,
    several_versions: BTreeSet<String>,
    build_scripts: BTreeSet<String>,
}

/// One package of the build, or of the lock file.
#[derive(Clone, Debug, Default)]
struct Package {
    name: String,
    version: String,
    licence: String,
    /// `None` for a package of this workspace.
    source: Option<String>,
    has_build_script: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table(file: &str) -> toml::Table {
    let text = std::fs::read_to_string(root().join(file)).expect("the file is here");
    text.parse().unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Texts of a list. An entry that is a table is named by its `crate`.
fn texts(list: &toml::Value) -> BTreeSet<String> {
    let list = list.as_array().expect("a list");
    let text =
        |it: &toml::Value| it.as_str().or_else(|| it.get("crate")?.as_str()).map(str::to_owned);
    list.iter().map(|it| text(it).expect("a name")).collect()
}

fn rules() -> Rules {
    let file = table(".cargo/deny.toml");
    Rules {
        licences: texts(&file["licenses"]["allow"]),
        registries: texts(&file["sources"]["allow-registry"]),
        banned: texts(&file["bans"]["deny"]),
        several_versions: texts(&file["bans"]["skip"]),
        build_scripts: texts(&file["bans"]["build"]["allow-build-scripts"]),
    }
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output();
    let output = output.expect("cargo runs");
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {problem}");
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// What is built on this machine. Packages of other platforms may never have been downloaded.
fn built() -> Vec<Package> {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let one_platform = ["--filter-platform", host];
    let arguments = ["metadata", "--offline", "--locked", "--format-version=1"];
    let metadata = cargo(&[&arguments[..], &one_platform].concat());
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo prints JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let packages = metadata["packages"].as_array().expect("packages");
    let package = |it: &Value| {
        let mut targets = it["targets"].as_array().expect("targets").iter();
        Package {
            name: text(&it["name"]).expect("a name"),
            version: text(&it["version"]).expect("a version"),
            licence: text(&it["license"]).unwrap_or_default(),
            source: text(&it["source"]),
            has_build_script: targets.any(|target| target["kind"][0] == "custom-build"),
        }
    };
    packages.iter().map(package).collect()
}

/// What the lock file names, for all platforms and features. It says nothing of licences.
fn locked() -> Vec<Package> {
    let file = table("Cargo.lock");
    let text = |it: &toml::Value, key: &str| it.get(key)?.as_str().map(str::to_owned);
    let packages = file["package"].as_array().expect("packages");
    let package = |it: &toml::Value| Package {
        name: text(it, "name").expect("a name"),
        version: text(it, "version").expect("a version"),
        source: text(it, "source"),
        ..Package::default()
    };
    packages.iter().map(package).collect()
}

// ---- The rules. Each says what is wrong with one package.

fn wrong_name_or_origin(rules: &Rules, package: &Package) -> Option<String> {
    let Package { name, version, source, .. } = package;
    if rules.banned.contains(name) {
        return Some(format!("{name} {version} is banned"));
    }
    let source = source.as_ref()?;
    let registry = source.strip_prefix("registry+");
    match registry.is_some_and(|registry| rules.registries.contains(registry)) {
        true => None,
        false => Some(format!("{name} {version} comes from {source}")),
    }
}

fn wrong_licence_or_script(rules: &Rules, package: &Package) -> Option<String> {
    let Package { name, version, licence, source, has_build_script } = package;
    if !is_allowed(licence, &rules.licences) {
        return Some(format!("{name} {version} has the licence {licence:?}"));
    }
    let is_listed = source.is_none() || rules.build_scripts.contains(name);
    (*has_build_script && !is_listed)
        .then(|| format!("{name} {version} runs a program during the build"))
}

/// Names that two packages have and that are not excepted.
fn several_versions(rules: &Rules, packages: &[Package]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let again = packages.iter().filter(|package| !seen.insert(&package.name));
    let again = again.filter(|package| !rules.several_versions.contains(&package.name));
    again.map(|package| format!("{} is there in several versions", package.name)).collect()
}

/// Whether a licence expression can be met with these licences. `/` is the old way to write OR.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut tokens = spaced.split_whitespace().peekable();
    let is_met = any_of(&mut tokens, allowed);
    is_met && tokens.next().is_none()
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(tokens: &mut Tokens<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut is_met = all_of(tokens, allowed);
    while tokens.next_if_eq(&"OR").is_some() {
        is_met |= all_of(tokens, allowed);
    }
    is_met
}

fn all_of(tokens: &mut Tokens<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut is_met = one(tokens, allowed);
    while tokens.next_if_eq(&"AND").is_some() {
        is_met &= one(tokens, allowed);
    }
    is_met
}

fn one(tokens: &mut Tokens<'_>, allowed: &BTreeSet<String>) -> bool {
    if tokens.next_if_eq(&"(").is_some() {
        let is_met = any_of(tokens, allowed);
        return tokens.next() == Some(")") && is_met;
    }
    let Some(mut name) = tokens.next().map(str::to_owned) else { return false };
    if tokens.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", tokens.next().unwrap_or_default());
    }
    allowed.contains(&name)
}

#[test]
fn no_package_has_a_licence_origin_or_build_script_that_is_not_allowed() {
    let rules = rules();
    let (built, locked) = (built(), locked());
    assert!(built.len() > 50 && locked.len() > 50, "the packages were not found");
    let mut wrong: Vec<String> =
        built.iter().filter_map(|it| wrong_licence_or_script(&rules, it)).collect();
    wrong.extend(built.iter().chain(&locked).filter_map(|it| wrong_name_or_origin(&rules, it)));
    wrong.extend(several_versions(&rules, &built));
    assert!(wrong.is_empty(), "against .cargo/deny.toml:\n{}", wrong.join("\n"));
}

#[test]
fn the_licence_of_this_project_is_here_in_full() {
    let text = std::fs::read_to_string(root().join(".github/LICENSE")).expect("the licence");
    assert_eq!(table("Cargo.toml")["workspace"]["package"]["license"].as_str(), Some("Apache-2.0"));
    assert!(text.contains("Apache License") && text.contains("END OF TERMS AND CONDITIONS"));
}

// ---- The checks themselves, shown packages that break each rule.

#[test]
fn a_package_that_breaks_a_rule_is_seen() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let rules = Rules {
        licences: set(&["MIT"]),
        registries: set(&[CRATES_IO]),
        banned: set(&["banned"]),
        several_versions: set(&["twice"]),
        build_scripts: set(&["listed"]),
    };
    let package = |name: &str| Package {
        name: name.to_owned(),
        licence: "MIT".to_owned(),
        source: Some(format!("registry+{CRATES_IO}")),
        ..Package::default()
    };
    let is_wrong = |package: &Package| {
        wrong_name_or_origin(&rules, package).is_some()
            || wrong_licence_or_script(&rules, package).is_some()
    };
    assert!(!is_wrong(&package("good")));
    assert!(!is_wrong(&Package { has_build_script: true, ..package("listed") }));
    assert!(!is_wrong(&Package { source: None, ..package("ours") }));
    assert!(is_wrong(&package("banned")));
    assert!(is_wrong(&Package { has_build_script: true, ..package("other") }));
    assert!(is_wrong(&Package { licence: String::new(), ..package("other") }));
    assert!(is_wrong(&Package { licence: "GPL-3.0-only".to_owned(), ..package("other") }));
    for source in ["git+https://github.com/a/b", "registry+https://example.org/index"] {
        assert!(is_wrong(&Package { source: Some(source.to_owned()), ..package("other") }));
    }
    let twice = |name: &str| several_versions(&rules, &[package(name), package(name)]).len();
    assert_eq!((twice("twice"), twice("other")), (0, 1));
}

#[test]
fn a_licence_expression_is_met_by_what_is_allowed_only() {
    let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    let met = [
        "MIT",
        "GPL-2.0 OR MIT",
        "Apache-2.0/MIT",
        "MIT AND Zlib",
        "(MIT OR Apache-2.0) AND Zlib",
        "Apache-2.0 WITH LLVM-exception",
    ];
    let unmet = [
        "",
        "Apache-2.0",
        "MIT AND Apache-2.0",
        "(MIT OR Zlib) AND Apache-2.0",
        "MIT WITH LLVM-exception",
        "(MIT",
        "MIT)",
    ];
    for expression in met {
        assert!(is_allowed(expression, &allowed), "{expression}");
    }
    for expression in unmet {
        assert!(!is_allowed(expression, &allowed), "{expression}");
    }
}
