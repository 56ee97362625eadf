import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';

const root = new URL('../../', import.meta.url).pathname;
const notOurs = new Set([
  'node_modules',
  '.git',
  'gen',
  'dist',
  'data',
  'results',
  'coverage',
  '__pycache__',
  '.millrace',
]);
const linesMax = 400;
const folderFilesMax = 15;

/** The files of the project below a folder, as paths from the root. */
function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return notOurs.has(entry.name) ? [] : filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}

const files = filesBelow('.');
const texts = files.filter((path) => /\.(ts|js|json|md|proto|sql|py|yaml|sh)$|\/run$/.test(path) || path === '.npmrc');
const thisFile = relative(root, import.meta.filename);

/** Lines of our texts that match, except in this file, as `path:line`. */
function linesThat(matches: RegExp, except: readonly string[] = []): string[] {
  return texts
    .filter((path) => path !== thisFile && !except.includes(path))
    .flatMap((path) =>
      readFileSync(join(root, path), 'utf8')
        .split('\n')
        .flatMap((line, index) => (matches.test(line) ? [`${path}:${index + 1}: ${line.trim().slice(0, 100)}`] : [])),
    );
}

test('no file of src is longer than a reader can hold', () => {
  const long = files
    .filter((path) => /^src\/.*\.ts$/.test(path))
    .map((path) => ({ path, lines: readFileSync(join(root, path), 'utf8').split('\n').length - 1 }))
    .filter(({ lines }) => lines > linesMax);
  expect(long).toEqual([]);
});

/** Folders with more files than they may have. */
function crowded(paths: readonly string[]): string[] {
  return [...Map.groupBy(paths, dirname)]
    .filter(([, inFolder]) => inFolder.length > folderFilesMax)
    .map(([folder, inFolder]) => `${folder}: ${inFolder.length} files`);
}

test('no folder has more files than a reader takes in at one look', () => {
  const tree = files.filter((path) => /^(src|test|bench)\//.test(path) && !path.includes('/golden/'));
  expect(crowded(tree)).toEqual([]);
  const sixteen = Array.from({ length: folderFilesMax + 1 }, (_, n) => `src/log/${n}.ts`);
  expect(crowded(sixteen)).toEqual(['src/log: 16 files']);
});

test('nothing is left for later', () => {
  expect(linesThat(/\b(TODO|FIXME|XXX)\b/, ['eslint.config.js', 'package-lock.json'])).toEqual([]);
});

test('no file has the markers of a merge that was not resolved', () => {
  expect(linesThat(/^(<{7}|={7}|>{7}|\|{7})( |$)/)).toEqual([]);
});

test('no test is switched off', () => {
  expect(linesThat(/\b(test|it|describe)\.(only|skip|todo)\b/)).toEqual([]);
});

test('no path of the machine that it was written on', () => {
  expect(linesThat(/(^|[\s"'`(=:])\/(work|home|Users|root)\//)).toEqual([]);
});

test('the lock file names no registry, so that each machine asks its own', () => {
  expect(linesThat(/"resolved": "http/)).toEqual([]);
});

test('no file or folder is named after nothing in particular', () => {
  const vague = /^(utils?|helpers?|common|types|misc)(\.ts)?$/;
  expect(files.filter((path) => path.split('/').some((part) => vague.test(part)))).toEqual([]);
});

const textOf = (path: string): string => readFileSync(join(root, path), 'utf8');

test('every test file is one that the runner finds', () => {
  const looksLikeTest = /import .*\b(test|it)\b.* from 'vitest'/;
  const missed = files.filter(
    (path) => /^test\/.*(?<!\.(test|suite|sample))\.ts$/.test(path) && looksLikeTest.test(textOf(path)),
  );
  expect(missed).toEqual([]);
});

test('every suite of a port runs on PostgreSQL and on a twin, or the twin would prove what PostgreSQL does not', () => {
  const suites = files.filter((path) => path.endsWith('.suite.ts'));
  expect(suites.length).toBeGreaterThan(7);
  const runs = files.filter((path) => /^test\/conformance\/.*\.test\.ts$/.test(path));
  const runsOf = (suite: string): string[] =>
    runs.filter((path) => textOf(path).includes(`'./suites/${basename(suite)}'`)).map((path) => basename(path));
  for (const suite of suites) {
    expect(runsOf(suite), suite).toContain('postgres.test.ts');
    expect(runsOf(suite).length, suite).toBeGreaterThan(1);
  }
});

test('the generated code is what the proto files say (npm run generate)', () => {
  const fresh = mkdtempSync(join(tmpdir(), 'millrace-gen-'));
  try {
    execFileSync('buf', ['generate', '--output', fresh], { cwd: root, stdio: 'pipe' });
    const read = (directory: string): Record<string, string> =>
      Object.fromEntries(
        readdirSync(directory, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name))
          .map((path) => [relative(directory, path), readFileSync(path, 'utf8')]),
      );
    const expected = read(join(fresh, 'gen'));
    const committed = read(join(root, 'gen'));
    expect(Object.keys(committed).sort()).toEqual(Object.keys(expected).sort());
    const stale = Object.keys(expected).filter((path) => committed[path] !== expected[path]);
    expect(stale.map((path) => basename(path))).toEqual([]);
  } finally {
    rmSync(fresh, { recursive: true });
  }
}, 60_000);
