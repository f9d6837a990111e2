#!/usr/bin/env python3
"""Which mistakes the tests would miss: every place of some modules goes wrong once, and tests run.

All mutants are compiled into one program, each behind `crate::mutant::is(N)`, and PREGAO_MUTANT=N chooses one. So
they cost one build. Then each test runs alone once, and notes which of the places it comes to (PREGAO_REACHED names the
file for that). A mutant meets the tests that come to its place, and no others: they cannot tell it. What does not compile
is left out. The tree is not changed: a copy is, in --work.

    tests/mutants.py log storage                    all mutants of src/log/ and src/storage/
    tests/mutants.py node --sample 200 --seed 1     200 of them, drawn from this seed
    tests/mutants.py log --then durability          survivors meet these integration tests too
    tests/mutants.py node --then sim --days 30      survivors meet the simulator: the days of the seeds 0 to 29

The places: a function returns at once with a plain value; a condition or a term of one is negated; a comparison
takes its boundary to the other side; a number next to `+`, `-`, `*` or `/` is one more; a statement is left out. A test
that fails, panics or takes ten times as long as without a mutant has found it.
"""
import argparse, json, os, pathlib, random, re, signal, shutil, subprocess, sys, threading, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SWITCH = '''//! Chooses one mutant of this build, or notes which of them the tests reach.
use std::io::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
static CHOSEN: LazyLock<u32> = LazyLock::new(|| {
    std::env::var("PREGAO_MUTANT").ok().and_then(|it| it.parse().ok()).unwrap_or(0)
});
static NOTES: LazyLock<Option<std::fs::File>> = LazyLock::new(|| {
    let path = std::env::var_os("PREGAO_REACHED")?;
    std::fs::OpenOptions::new().append(true).create(true).open(path).ok()
});
static REACHED: [AtomicBool; 10_000] = [const { AtomicBool::new(false) }; 10_000];
/// Whether it is this one.
pub fn is(number: u32) -> bool {
    if let Some(mut notes) = NOTES.as_ref()
        && !REACHED[number as usize].swap(true, Relaxed)
    {
        let _ = notes.write_all(format!("{number}\\n").as_bytes());
    }
    *CHOSEN == number
}
/// The condition, or its opposite.
pub fn flip(number: u32, it: bool) -> bool { it != is(number) }
/// `a < b` or `a <= b`.
pub fn lt<A: PartialOrd<B> + ?Sized, B: ?Sized>(n: u32, a: &A, b: &B) -> bool { a < b || is(n) && a <= b }
/// `a <= b` or `a < b`.
pub fn le<A: PartialOrd<B> + ?Sized, B: ?Sized>(n: u32, a: &A, b: &B) -> bool { a < b || !is(n) && a <= b }
/// `a > b` or `a >= b`.
pub fn gt<A: PartialOrd<B> + ?Sized, B: ?Sized>(n: u32, a: &A, b: &B) -> bool { a > b || is(n) && a >= b }
/// `a >= b` or `a > b`.
pub fn ge<A: PartialOrd<B> + ?Sized, B: ?Sized>(n: u32, a: &A, b: &B) -> bool { a > b || !is(n) && a >= b }
'''
COMPARISONS = {'<': 'lt', '<=': 'le', '>': 'gt', '>=': 'ge'}
CLOSURES = 'filter|any|all|position|rposition|is_some_and|is_none_or|take_while|skip_while|partition_point|find|retain|take_if|then_some'
# The simulator is a package of its own, and not a test of the library's.
SIMULATOR = 'sim'
# Tests that take fewer seconds share a process.
QUICK = 0.2
# Seconds that a test gets beside ten times its own.
GRACE = 2
SKIPPED = ('is_planted', 'debug_assert', 'assert!', 'assert_eq!', 'log::', 'cfg!(')


class Mutants:
    """The mutants of a tree, numbered from 1."""

    def __init__(self, dropped):
        self.all, self.dropped, self.file, self.line = [], dropped, None, 0

    def new(self, what):
        """A number for a mutant of the present line, or None when it is known not to compile."""
        key = (self.file, self.line, what)
        if key in self.dropped:
            return None
        self.all.append(key)
        return len(self.all)


def depths(text):
    """The depth of brackets at each character. Strings and characters count as one deep place."""
    depth, out, quote, i = 0, [], None, 0
    while i < len(text):
        c = text[i]
        if quote:
            out.append(depth + 1)
            if c == '\\':
                out.append(depth + 1)
                i += 1
            elif c == quote:
                quote = None
        elif c == '"' or (c == "'" and re.match(r"'(\\.|[^\\])'", text[i:])):
            quote = c
            out.append(depth + 1)
        else:
            if c in ')]}':
                depth -= 1
            out.append(depth)
            if c in '([{':
                depth += 1
        i += 1
    return out[:len(text)]


def split(text, operators):
    """Splits at the operators that stand in no bracket and no closure. [term, operator, term...]"""
    if re.search(r'(^|[(\s,=])\|', text.replace('||', '  ')):
        return [text]
    depth, parts, start, i = depths(text), [], 0, 0
    while i < len(text):
        for operator in operators:
            if depth[i] == 0 and text.startswith(f' {operator} ', i):
                parts += [text[start:i], operator]
                start = i = i + len(operator) + 2
                break
        else:
            i += 1
    return parts + [text[start:]]


def condition(text, mutants):
    """A condition with its mutants."""
    if re.search(r'\blet\b|\bmatches!|=>', text) or any(it in text for it in SKIPPED):
        return text
    if depths(text + ' ')[-1] != 0:
        return text
    parts = split(text, ('&&', '||'))
    for at in range(0, len(parts), 2):
        term = parts[at].strip()
        sides = split(term, ('<=', '>=', '<', '>'))
        whole = term
        if len(sides) == 3 and '::<' not in term:
            number = mutants.new(f'boundary of `{term}`')
            if number:
                whole = f'crate::mutant::{COMPARISONS[sides[1]]}({number}, &({sides[0]}), &({sides[2]}))'
        number = mutants.new(f'negate `{term}`')
        parts[at] = f'crate::mutant::flip({number}, {whole})' if number else whole
    return ' '.join(parts)


def numbers(line, mutants):
    """Small numbers next to arithmetic become one more."""
    def replace(match):
        number = mutants.new(f'one more in `{match.group(0).strip()}`')
        if not number:
            return match.group(0)
        value = int(match.group(2))
        return f'{match.group(1)}(if crate::mutant::is({number}) {{ {value + 1} }} else {{ {value} }}){match.group(3)}'
    line = re.sub(r'((?:saturating|wrapping|checked)_(?:add|sub)\()(\d+)(\))', replace, line)
    return re.sub(r'((?<=[\w)\]]) [-+*/] )(\d+)(?![\w.])()', replace, line)


def closures(line, mutants):
    """Conditions that are closures."""
    for match in reversed(list(re.finditer(rf'\.(?:{CLOSURES})\(\|[^|]*\| ', line))):
        start, depth = match.end(), depths(line)
        inside = depth[start] if start < len(line) else 0
        end = next((i for i in range(start, len(line)) if depth[i] < inside), None)
        body = line[start:end] if end else ''
        if body and '{' not in body and ', ' not in body:
            line = line[:start] + condition(body, mutants) + line[end:]
    return line


def statement(line, mutants):
    """A whole statement that is left out."""
    text = line.strip()
    known = re.match(r'^[*]?[a-z_][\w.]*(\[[^\]]*\])?(\([^;]*\)(\?)?(\.[\w]+\([^;]*\))*| [-+*/|&]?= .*);$', text)
    keywords = ('let ', 'return', 'break', 'continue', 'use ', 'pub', 'type ', 'const ', 'static ', 'mod ', 'drop(')
    if not known or text.startswith(keywords) or any(it in text for it in SKIPPED):
        return line
    if depths(text + ' ')[-1] != 0 or re.match(r'^\w+!', text):
        return line
    number = mutants.new(f'leave out `{text}`')
    indent = line[:len(line) - len(line.lstrip())]
    return f'{indent}if !crate::mutant::is({number}) {{ {text} }}' if number else line


def plain_values(returned):
    """What a function of this type can return without having done anything."""
    if not returned:
        return ['']
    if returned == 'bool':
        return ['true', 'false']
    if re.fullmatch(r'[ui](8|16|32|64|size)', returned):
        return ['0', '1']
    if returned.startswith('Option<'):
        return ['None']
    if returned.startswith('Result<(),'):
        return ['Ok(())']
    if returned.startswith(('impl', '&', 'Self', '!')):
        return []
    return ['Default::default()']


def mutated(file, text, mutants):
    """The text of a file with all its mutants."""
    lines = text.split('\n')
    out, signature, skip_to, is_trait = [], None, None, False
    for index, line in enumerate(lines):
        mutants.line = index + 1
        code = line.split('//')[0].rstrip() if '//' in line and '"' not in line else line
        if re.match(r'#\[cfg\((all\()?test', line.strip()):
            following = lines[index + 1] if index + 1 < len(lines) else ''
            if not following.strip().endswith(';'):
                # The tests of the module are the rest of the file; an item for tests goes to its end.
                if line.startswith('#') and 'mod ' in following:
                    return '\n'.join(out + lines[index:])
                indent = line[:len(line) - len(line.lstrip())]
                skip_to = next(i for i in range(index + 1, len(lines)) if lines[i] in (indent + '}', indent + '},'))
        if skip_to is not None:
            out.append(line)
            if index >= skip_to:
                skip_to = None
            continue
        if not code.strip() or code.strip().startswith(('//', '#', 'use ', 'pub use', 'const ', 'pub const', 'static ')):
            out.append(line)
            continue
        if re.match(r'^\s*(pub(\([^)]*\))? )?(const )?(unsafe )?fn \w+', code):
            signature = ''
        if signature is not None:
            signature += ' ' + code.strip()
            if code.endswith((';', '}')):
                signature = None
            elif code.endswith('{'):
                head, signature = signature, None
                if 'const fn' not in head and ' fn fmt(' not in head:
                    returned = re.search(r'\) -> (.+?)(?: where .*)? \{$', head)
                    for value in plain_values(returned.group(1) if returned else ''):
                        name = re.search(r'fn (\w+)', head).group(1)
                        number = mutants.new(f'`{name}` returns {value or "at once"}')
                        if number:
                            code += f' if crate::mutant::is({number}) {{ return {value}; }}'
            out.append(code)
            continue
        if any(it in code for it in ('const ', 'macro_rules')):
            out.append(line)
            continue
        new = numbers(code, mutants)
        found = re.match(r'^(\s*(?:\} else )?(?:if|while) )(.+)( \{)$', new)
        guard = re.match(r'^(.* if )(.+)( => .*)$', new)
        if found:
            new = found.group(1) + condition(found.group(2), mutants) + found.group(3)
        elif guard and depths(new)[guard.end(1)] == 0:
            new = guard.group(1) + condition(guard.group(2), mutants) + guard.group(3)
        else:
            new = statement(closures(new, mutants), mutants)
        out.append(new)
    return '\n'.join(out)


def run(command, **more):
    return subprocess.run(command, text=True, capture_output=True, **more)


class Limit(threading.Thread):
    """Kills a process that takes too long. What counts is what it computes, and what it waits for by itself: on a
    machine that others keep busy it also waits for a processor, and that is no fault of the mutant."""

    def __init__(self, process, within):
        super().__init__(daemon=True)
        self.process, self.within, self.is_over, self.end = process, within, False, threading.Event()
        self.start()

    def look(self):
        """Seconds on a processor so far, and whether a thread wants one."""
        # Behind the name, which may have any characters.
        fields = lambda path: path.read_text().rpartition(')')[2].split()
        own = pathlib.Path(f'/proc/{self.process.pid}')
        computed = sum(int(it) for it in fields(own / 'stat')[11:13])
        wants = any(fields(thread / 'stat')[0] in 'RD' for thread in (own / 'task').iterdir())
        return computed / os.sysconf('SC_CLK_TCK'), wants

    def run(self):
        spent, before, at = 0, 0, time.monotonic()
        while not self.end.wait(min(0.5, max(0.05, self.within - spent))):
            try:
                computed, wants = self.look()
            except (OSError, IndexError):
                continue
            now = time.monotonic()
            spent += computed - before if wants else max(computed - before, now - at)
            before, at = computed, now
            if spent > self.within:
                self.is_over = True
                try:
                    os.killpg(self.process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                return

    def cancel(self):
        """The process has ended. Whether it was killed."""
        self.end.set()
        self.join()
        return self.is_over


def replace(path, text):
    """Writes a file unless it has this text. A file that stays as it is costs no build."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def copy_tree(work, modules):
    """Copies what is in the repository, as it lies here, without what is mutated."""
    mutated_files = {f'src/{name}' for name in files_of(modules)} | {'src/lib.rs'}
    listed = run(['git', 'ls-files', '--cached', '--others', '--exclude-standard'], cwd=ROOT).stdout.split('\n')
    for name in filter(None, listed):
        source, target = ROOT / name, work / name
        if source.is_file() and name not in mutated_files:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_bytes() != source.read_bytes():
                shutil.copyfile(source, target)


def files_of(modules):
    for module in modules:
        for path in sorted((ROOT / 'src' / module).rglob('*.rs')):
            name = path.relative_to(ROOT / 'src').as_posix()
            # Tests, what stands in for a disk in them, and programs of their own.
            if not re.search(r'(^|/)(tests|model|examples)(/|\.rs$)|_tests(/|\.rs$)|/model/|log/memory\.rs', name):
                yield name


def build(work, modules, beside, integration, jobs):
    """Compiles all mutants that compile. (mutants, programs by the name of the test)"""
    known = work / 'do_not_compile.json'
    dropped = {tuple(it) for it in json.loads(known.read_text())} if known.exists() else set()
    environment = {**os.environ, 'RUSTFLAGS': '-A warnings', 'CARGO_PROFILE_TEST_OPT_LEVEL': '1',
                   'CARGO_PROFILE_DEV_OPT_LEVEL': '1', 'CARGO_PROFILE_DEV_DEBUG': '0', 'CARGO_INCREMENTAL': '1',
                   # The same cases for each mutant, and nothing is kept of those that fail.
                   'PROPTEST_RNG_SEED': '1', 'PROPTEST_DISABLE_FAILURE_PERSISTENCE': '1'}
    root = (ROOT / 'src/lib.rs').read_text()
    if beside:
        kept = {*modules, *beside}
        root = re.sub(r'^(?:pub )?mod (\w+);\n', lambda it: it.group(0) if it.group(1) in kept else '', root, flags=re.M)
    place = re.search(r'^(pub )?mod ', root, re.M).start()
    while True:
        mutants = Mutants(dropped)
        for name in files_of(modules):
            mutants.file = name
            replace(work / 'src' / name, mutated(name, (ROOT / 'src' / name).read_text(), mutants))
        replace(work / 'src/mutant.rs', SWITCH)
        replace(work / 'src/lib.rs', root[:place] + '#[doc(hidden)] pub mod mutant;\n' + root[place:])
        targets = ['--lib'] + [it for name in integration if name != SIMULATOR for it in ('--test', name)]
        command = ['cargo', 'test', '--offline', '--no-run', '--message-format=json', '-j', str(jobs), '--package']
        built = run(command + ['pregao'] + targets, cwd=work, env=environment)
        printed = built.stdout
        if built.returncode == 0 and SIMULATOR in integration:
            built = run(command + ['pregao-sim'], cwd=work, env=environment)
            printed += built.stdout
        programs, lines, said = {}, set(), []
        for line in printed.splitlines():
            message = json.loads(line) if line.startswith('{') else {}
            if message.get('executable') and message['profile']['test']:
                programs[message['target']['name']] = message['executable']
            told = message.get('message') or {}
            if told.get('level') == 'error':
                said.append(told.get('rendered', ''))
                for span in told['spans']:
                    lines.update((span['file_name'].removeprefix('src/'), it)
                                 for it in range(span['line_start'], span['line_end'] + 1))
        if built.returncode == 0:
            return mutants.all, programs, environment
        guilty = {key for key in mutants.all if key[:2] in lines}
        if not guilty:
            near = {(name, line + by) for name, line in lines for by in range(-3, 4)}
            guilty = {key for key in mutants.all if key[:2] in near}
        if not guilty:
            sys.exit(''.join(said[:3]) + built.stderr[-2000:])
        dropped |= guilty
        known.write_text(json.dumps(sorted(dropped)))
        print(f'{len(guilty)} of {len(mutants.all)} mutants do not compile', flush=True)


class Program:
    """A compiled test program."""

    def __init__(self, name, path, work, environment):
        self.name, self.path, self.work, self.environment = name, path, work, environment

    def tests(self, filters):
        """The names of its tests that a filter matches; of all without filters."""
        listed = run([self.path, '--list'], cwd=self.work).stdout.splitlines()
        names = [line.removesuffix(': test') for line in listed if line.endswith(': test')]
        return [it for it in names if not filters or any(part in it for part in filters)]

    def run(self, tests, number, within, notes=None):
        """Runs tests with a mutant, one after the other. What found it: a test's name, 'time', 'death'; or None."""
        chosen = {'PREGAO_MUTANT': str(number), **({'PREGAO_REACHED': str(notes)} if notes else {})}
        command = [self.path, '--exact', *tests, '--test-threads', '1']
        process = subprocess.Popen(command, env={**self.environment, **chosen}, text=True, cwd=self.work,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        limit = Limit(process, within)
        found = None
        for line in process.stdout:
            failed = re.match(r'test (\S+).* \.\.\. (.*)FAILED', line)
            if failed:
                found = failed.group(1)
                break
        is_late = limit.cancel()
        try:
            if found:
                os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        code = process.wait()
        return found or ('time' if is_late else 'death' if code else None)

    def survey(self, filters):
        """Runs each test alone without a mutant, and notes how long it takes and which places it comes to. A test
        that fails only because of the notes is taken to come to all."""
        self.known, notes, kept = [], self.work / 'reached', self.work / f'survey-{self.name}.json'
        key = [str(self.path), os.stat(self.path).st_mtime, filters]
        if kept.exists() and json.loads(kept.read_text())[0] == key:
            read = json.loads(kept.read_text())[1]
            self.known = [(taken, test, None if reached is None else set(reached)) for taken, test, reached in read]
            return
        for test in self.tests(filters):
            notes.unlink(missing_ok=True)
            begun = time.monotonic()
            is_disturbed = self.run([test], 0, 600, notes)
            taken = time.monotonic() - begun
            if is_disturbed:
                begun = time.monotonic()
                found = self.run([test], 0, 600)
                taken = time.monotonic() - begun
                if found:
                    print(f'left out, as it fails without a mutant: {self.name} {test}', flush=True)
                    continue
            reached = {int(it) for it in notes.read_text().split()} if notes.exists() else set()
            self.known.append((taken, test, None if is_disturbed else reached))
        self.known.sort(key=lambda it: it[0])
        listed = [(taken, test, None if reached is None else sorted(reached)) for taken, test, reached in self.known]
        kept.write_text(json.dumps([key, listed]))
        print(f'{self.name}: {len(self.known)} tests, {sum(it[0] for it in self.known):.0f} s', flush=True)

    def finds(self, number, place, only_quick):
        """What finds this mutant, if anything does. (that, whether any test comes to its place)"""
        coming = [(taken, test) for taken, test, reached in self.known if reached is None or number in reached]
        quick = [it for it in coming if it[0] < QUICK]
        # The nearest first: most mutants are found by them.
        near = [it for it in quick if it[1].startswith(place)]
        own = [it for it in quick if it not in near and it[1].startswith(place.split('::')[0])]
        others = [it for it in quick if it not in near and it not in own]
        slow = [[it] for it in coming[len(quick):]] * (not only_quick)
        for batch in filter(None, [near, own, others, *slow]):
            found = self.run([test for _, test in batch], number, 10 * sum(taken for taken, _ in batch) + GRACE)
            if found:
                return found, True
        return None, bool(coming)


class Simulator(Program):
    """The simulator. It runs some days with a mutant, until the first one that breaks an invariant."""

    def __init__(self, days, *rest):
        super().__init__(*rest)
        self.days = days

    def run(self, tests, number, within, notes=None):
        chosen = {'PREGAO_MUTANT': str(number), **({'PREGAO_REACHED': str(notes)} if notes else {})}
        command = [self.path, '--seeds', str(self.days), '--jobs', '1']
        process = subprocess.Popen(command, env={**self.environment, **chosen}, text=True, cwd=self.work,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        limit = Limit(process, within)
        found = next((it for it in (re.match(r'(seed \d+): ', line) for line in process.stdout) if it), None)
        is_late = limit.cancel()
        if found:
            process.kill()
        code = process.wait()
        return f'sim {found.group(1)}' if found else 'time' if is_late else 'death' if code else None

    def survey(self, filters):
        notes = self.work / 'reached'
        notes.unlink(missing_ok=True)
        begun = time.monotonic()
        if failed := self.run([], 0, 3_600, notes):
            sys.exit(f'the simulator fails without a mutant: {failed}')
        self.taken, self.reached = time.monotonic() - begun, {int(it) for it in notes.read_text().split()}
        print(f'{self.name}: {self.days} days, {self.taken:.0f} s', flush=True)

    def finds(self, number, place, only_quick):
        if number not in self.reached:
            return None, False
        return self.run([], number, 10 * self.taken + GRACE), True


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('modules', nargs='+')
    options.add_argument('--tests', nargs='*', default=[], help='filters of the library\'s tests; all unless given')
    options.add_argument('--beside', nargs='*', help='the modules that these need; the others are not compiled')
    options.add_argument('--then', nargs='*', default=[], help='integration tests for those that survive')
    options.add_argument('--days', type=int, default=30, help='days of `--then sim`')
    options.add_argument('--quick', action='store_true', help=f'only tests that take less than {QUICK} s: a first look')
    options.add_argument('--sample', type=int)
    options.add_argument('--seed', type=int, default=1)
    options.add_argument('--jobs', type=int, default=1)
    options.add_argument('--only', help='a regular expression on `file:line: mutant`')
    options.add_argument('--again', help='results.txt of a run: only what survived there, and what it does not know')
    options.add_argument('--work', default=str(ROOT / 'target/mutants'))
    chosen = options.parse_args()
    work = pathlib.Path(chosen.work)
    work.mkdir(parents=True, exist_ok=True)
    copy_tree(work, chosen.modules)
    mutants, built, environment = build(work, chosen.modules, chosen.beside, chosen.then, chosen.jobs)
    numbers = list(range(1, len(mutants) + 1))
    text = lambda number: '{}:{}: {}'.format(*mutants[number - 1])
    if chosen.only:
        numbers = [it for it in numbers if re.search(chosen.only, text(it))]
    if chosen.again:
        lines = [line.split('\t') for line in pathlib.Path(chosen.again).read_text().splitlines()]
        # Without the number of the line, which moves.
        key = lambda it: re.sub(r':\d+: ', ': ', it, count=1)
        found = {key(what) for how, what in lines if how not in ('survives', 'unreached')}
        survived = {key(what) for how, what in lines if how in ('survives', 'unreached')}
        numbers = [it for it in numbers if key(text(it)) in survived or key(text(it)) not in found]
    # In an order of their own, so that what has been tried at any time is a fair sample.
    numbers = random.Random(chosen.seed).sample(numbers, min(chosen.sample or len(numbers), len(numbers)))
    print(f'{len(mutants)} mutants, {len(numbers)} to try', flush=True)
    programs = [Simulator(chosen.days, name, built[name], work, environment) if name == SIMULATOR
                else Program(name, built[name], work, environment) for name in ('pregao', *chosen.then)]
    for program in programs:
        program.survey(chosen.tests if program.name == 'pregao' else [])
    counts, lock = {}, threading.Lock()
    todo = iter(numbers)
    results = (work / 'results.txt').open('w')

    def work_on():
        while True:
            with lock:
                number = next(todo, None)
            if number is None:
                return
            path = mutants[number - 1][0].split('/')
            found, is_reached, module, place = None, False, path[0], '::'.join(path[:2]).removesuffix('.rs')
            for program in programs:
                if not found:
                    found, comes = program.finds(number, place, chosen.quick)
                    is_reached |= comes
            with lock:
                count = counts.setdefault(module, [0, 0, 0])
                count[0] += 1
                print(f'{found or ("survives" if is_reached else "unreached")}\t{text(number)}', file=results, flush=True)
                if not found:
                    count[1] += 1
                    count[2] += not is_reached
                    print(f'SURVIVES{"" if is_reached else ", NO TEST COMES THERE"} {text(number)}', flush=True)
                if sum(it[0] for it in counts.values()) % 50 == 0:
                    print(f'so far (tried, survived, not come to): {counts}', flush=True)

    threads = [threading.Thread(target=work_on) for _ in range(chosen.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for module, (tried, survived, unreached) in sorted(counts.items()):
        print(f'{module}/: {survived} of {tried} survive, {100 * survived / tried:.1f} %; to {unreached} of these no test comes')


main()
