#!/usr/bin/env python3
"""Which mistakes the tests would miss: every place of some modules goes wrong once, and tests run.

All mutants are compiled into one program, each behind `crate::mutant::is(N)`, and PREGAO_MUTANT=N chooses one. So
they cost one build, and then one run of the tests each. What does not compile is left out. The tree is not changed:
a copy is, in --work.

    tests/mutants.py log storage                    all mutants of src/log/ and src/storage/
    tests/mutants.py node --sample 200 --seed 1     200 of them, drawn from this seed
    tests/mutants.py log --then durability          survivors meet these integration tests too

The places: a function returns at once with a plain value; a condition or a term of one is negated; a comparison
takes its boundary to the other side; a number next to `+`, `-`, `*` or `/` is one more; a statement is left out. A test
that fails, panics or takes ten times as long as without a mutant has found it.
"""
import argparse, json, os, pathlib, random, re, signal, shutil, subprocess, sys, threading, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SWITCH = '''//! Chooses one mutant of this build.
use std::sync::LazyLock;
static CHOSEN: LazyLock<u32> = LazyLock::new(|| {
    std::env::var("PREGAO_MUTANT").ok().and_then(|it| it.parse().ok()).unwrap_or(0)
});
/// Whether it is this one.
pub fn is(number: u32) -> bool { *CHOSEN == number }
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


def copy_tree(work):
    """Copies what is in the repository, as it lies here."""
    listed = run(['git', 'ls-files', '--cached', '--others', '--exclude-standard'], cwd=ROOT).stdout.split('\n')
    for name in filter(None, listed):
        source, target = ROOT / name, work / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_bytes() != source.read_bytes():
                shutil.copyfile(source, target)


def files_of(modules):
    for module in modules:
        for path in sorted((ROOT / 'src' / module).rglob('*.rs')):
            name = path.relative_to(ROOT / 'src').as_posix()
            # Tests, and what stands in for a disk in them.
            if not re.search(r'(^|/)(tests|model)(/|\.rs$)|_tests\.rs$|/model/|log/memory\.rs', name):
                yield name


def build(work, modules, beside, integration, jobs):
    """Compiles all mutants that compile. (mutants, programs by the name of the test)"""
    known = work / 'do_not_compile.json'
    dropped = {tuple(it) for it in json.loads(known.read_text())} if known.exists() else set()
    environment = {**os.environ, 'RUSTFLAGS': '-A warnings', 'CARGO_PROFILE_TEST_OPT_LEVEL': '1',
                   'CARGO_PROFILE_DEV_OPT_LEVEL': '1', 'CARGO_PROFILE_DEV_DEBUG': '0', 'CARGO_INCREMENTAL': '1'}
    root = (ROOT / 'src/lib.rs').read_text()
    if beside:
        kept = {*modules, *beside}
        root = re.sub(r'^(?:pub )?mod (\w+);\n', lambda it: it.group(0) if it.group(1) in kept else '', root, flags=re.M)
    place = re.search(r'^(pub )?mod ', root, re.M).start()
    while True:
        mutants = Mutants(dropped)
        for name in files_of(modules):
            mutants.file = name
            (work / 'src' / name).write_text(mutated(name, (ROOT / 'src' / name).read_text(), mutants))
        (work / 'src/mutant.rs').write_text(SWITCH)
        (work / 'src/lib.rs').write_text(root[:place] + '#[doc(hidden)] pub mod mutant;\n' + root[place:])
        targets = ['--lib'] + [it for name in integration for it in ('--test', name)]
        command = ['cargo', 'test', '--offline', '--package', 'pregao', '--no-run', '--message-format=json', '-j', str(jobs)]
        built = run(command + targets, cwd=work, env=environment)
        programs, lines, said = {}, set(), []
        for line in built.stdout.splitlines():
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


def tried(program, filters, number, environment, within):
    """Runs tests with a mutant. What found it: a test's name, 'time', 'death'; None when nothing did."""
    command = [program, *filters, '--test-threads', '2']
    process = subprocess.Popen(command, env={**environment, 'PREGAO_MUTANT': str(number)}, text=True, cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    over = threading.Timer(within, lambda: os.killpg(process.pid, signal.SIGKILL))
    over.start()
    found = None
    for line in process.stdout:
        failed = re.match(r'test (\S+).* \.\.\. FAILED', line)
        if failed:
            found = failed.group(1)
            break
    is_late = not over.is_alive()
    over.cancel()
    try:
        if found:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    code = process.wait()
    return found or ('time' if is_late else 'death' if code else None)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('modules', nargs='+')
    options.add_argument('--tests', nargs='*', help='filters of the library\'s tests; the modules unless given')
    options.add_argument('--beside', nargs='*', help='the modules that these need; the others are not compiled')
    options.add_argument('--slow', nargs='*', default=[], help='filters of unit tests that are run last')
    options.add_argument('--then', nargs='*', default=[], help='integration tests for those that survive')
    options.add_argument('--sample', type=int)
    options.add_argument('--seed', type=int, default=1)
    options.add_argument('--jobs', type=int, default=1)
    options.add_argument('--only', help='a regular expression on `file:line: mutant`')
    options.add_argument('--work', default=str(ROOT / 'target/mutants'))
    chosen = options.parse_args()
    work = pathlib.Path(chosen.work)
    work.mkdir(parents=True, exist_ok=True)
    copy_tree(work)
    mutants, programs, environment = build(work, chosen.modules, chosen.beside, chosen.then, chosen.jobs)
    filters = chosen.tests or [f'{module}::' for module in chosen.modules]
    program = programs.pop('pregao')
    stages = []
    if chosen.slow:
        skipped = [it for name in chosen.slow for it in ('--skip', name)]
        stages = [('the quick unit tests', program, filters + skipped)]
    stages += [('the unit tests', program, chosen.slow or filters)]
    stages += [(name, program, []) for name, program in programs.items()]
    limits = {}
    for name, program, wanted in stages:
        begun = time.monotonic()
        found = tried(program, wanted, 0, environment, 1_200)
        limits[name] = 10 * (time.monotonic() - begun) + 10
        if found:
            sys.exit(f'{name} fail without a mutant: {found}')
    numbers = list(range(1, len(mutants) + 1))
    text = lambda number: '{}:{}: {}'.format(*mutants[number - 1])
    if chosen.only:
        numbers = [it for it in numbers if re.search(chosen.only, text(it))]
    # In an order of their own, so that what has been tried at any time is a fair sample.
    numbers = random.Random(chosen.seed).sample(numbers, min(chosen.sample or len(numbers), len(numbers)))
    print(f'{len(mutants)} mutants, {len(numbers)} to try; limits {limits}', flush=True)
    counts, survivors, lock = {}, [], threading.Lock()
    todo = iter(numbers)

    def work_on():
        while True:
            with lock:
                number = next(todo, None)
            if number is None:
                return
            found = None
            for name, program, wanted in stages:
                found = found or tried(program, wanted, number, environment, limits[name])
            with lock:
                module = mutants[number - 1][0].split('/')[0]
                count = counts.setdefault(module, [0, 0])
                count[0] += 1
                count[1] += found is None
                if found is None:
                    survivors.append(number)
                    print(f'SURVIVES {text(number)}', flush=True)
                if sum(it[0] for it in counts.values()) % 50 == 0:
                    print(f'so far (survived, tried): {[(it, counts[it][::-1]) for it in counts]}', flush=True)

    threads = [threading.Thread(target=work_on) for _ in range(chosen.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for module, (tried_, survived) in sorted(counts.items()):
        print(f'{module}/: {survived} of {tried_} survive, {100 * survived / tried_:.1f} %')


main()
