import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { commentBlocks, proseLines, testNames } from './prose.ts';

/** Holds what can be counted of the voice of the project: width, length, and riddles. */

const root = new URL('../../', import.meta.url).pathname;
const columnsMax = 100;
const commentLinesMax = 3;

/** The folders whose words are held. A folder joins the list once it has been rewritten. */
const sources = [
  'account',
  'limits',
  'time',
  'address',
  'broker',
  'commit',
  'config',
  'coordinator',
  'credit',
  'embedded',
  'errors',
  'log',
  'metrics',
  'ownership',
  'wire',
  'server',
  'rpc',
  'consumption',
  'delivery',
  'storage',
  'subscription',
  'retention',
];
const tests = [
  'account',
  'address',
  'bench',
  'broker',
  'commit',
  'config',
  'conformance',
  'consumption',
  'coordinator',
  'credit',
  'delivery',
  'demo',
  'embedded',
  'errors',
  'examples',
  'failure',
  'hostile',
  'limits',
  'log',
  'metrics',
  'ownership',
  'package',
  'readme',
  'retention',
  'rpc',
  'server',
  'simulation',
  'storage',
  'subscription',
  'support',
  'tidy',
  'time',
  'wire',
];
/** The table of errors is generated from the reasons, and its file is not prose. */
const documentsLeftOut = ['docs/errors.md'];

const find = (patterns: string[]): string[] =>
  globSync(patterns, { cwd: root, exclude: ['**/node_modules/**', '**/gen/**'] }).sort();
const code = find([
  'src/main.ts',
  ...sources.map((folder) => `src/${folder}/**/*.ts`),
  ...tests.map((folder) => `test/${folder}/**/*.ts`),
  'bench/**/*.ts',
  '*.config.{ts,js}',
  'examples/**/*.{ts,js}',
]).filter((path) => path !== 'test/tidy/voice.test.ts');
const protos = find(['proto/**/*.proto']);
const documents = find([
  'CHANGELOG.md',
  'README.md',
  'test/hostile/*.md',
  'docs/*.md',
  'deploy/*.md',
  'examples/*/*.md',
  'bench/**/*.md',
  'src/**/SPEC.md',
  'test/simulation/*.md',
]).filter((path) => !documentsLeftOut.includes(path));

const textOf = (path: string): string => readFileSync(join(root, path), 'utf8');
const commentsOf = (path: string): { readonly line: number; readonly text: string }[] =>
  commentBlocks(textOf(path)).flatMap(({ line, lines }) => lines.map((text, index) => ({ line: line + index, text })));

/** Constructions that readers stumble over, each with the better wording. */
const riddles: readonly { readonly found: RegExp; readonly better: string }[] = [
  { found: /\b(is|are) to (be|have|go|say|end|stay|come)\b/i, better: 'should, must or will, with a subject' },
  { found: /\b(whoever|whom)\b/i, better: 'name the subject: the member, the caller, the broker' },
  { found: /\bnobody (knows|hears|undoes|has said)\b/i, better: 'the outcome is unknown; it cannot be rolled back' },
  { found: /\b(is|are) (none|one) any more\b/i, better: 'the member was removed or fenced' },
  { found: /\b(hears?|heard) of\b/i, better: 'the coordinator gets, the broker receives' },
  { found: /\b(is|are|was|were) told\b/i, better: 'the client gets, the answer names, the owner learns from …' },
  { found: /\bwhat stays\b/i, better: 'partitions that stay, topics, groups and members: name them' },
  { found: /\bat last\b/i, better: 'finally, or the last resort' },
  { found: /\banew\b/i, better: 'again, or a new incarnation' },
  { found: /\b(affair|wishes)\b/i, better: 'is up to the client; options' },
  { found: /\bgets? done with\b/i, better: 'a stuck record' },
  { found: /\bmay speak of\b/i, better: 'may ack' },
  { found: /\bsays? so\b/i, better: 'reports it, logs a warning, answers with a reason' },
  { found: /\bjust in case\b|\bsomehow\b/i, better: 'name the case' },
];

function riddlesIn(path: string, lines: readonly { readonly line: number; readonly text: string }[]): string[] {
  return lines.flatMap(({ line, text }) =>
    riddles
      .filter(({ found }) => found.test(text))
      .map(({ found, better }) => `${path}:${line}: "${found.exec(text)![0]}", better: ${better}`),
  );
}

describe('the folders that are held to the voice', () => {
  test('exist, so that no rule passes because it looks at nothing', () => {
    expect([code.length > 250, protos.length, documents.length > 20]).toEqual([true, 7, true]);
    for (const folder of sources) expect(find([`src/${folder}/**/*.ts`]), folder).not.toEqual([]);
    for (const folder of tests) expect(find([`test/${folder}/**/*.ts`]), folder).not.toEqual([]);
  });
});

test('no comment is wider than a reader takes in at one look', () => {
  const wide = [...code, ...protos].flatMap((path) =>
    commentsOf(path)
      .filter(({ text }) => text.length > columnsMax && !/:\/\/|[─▶]/.test(text))
      .map(({ line }) => `${path}:${line}`),
  );
  expect(wide).toEqual([]);
});

test('no line of a document is wider than a reader takes in at one look', () => {
  const wide = documents.flatMap((path) =>
    proseLines(textOf(path))
      .filter(({ text }) => text.length > columnsMax && !/\]\([^)]*\)|`[^`]{40,}`/.test(text))
      .map(({ line }) => `${path}:${line}`),
  );
  expect(wide).toEqual([]);
});

test('no function has a comment that is longer than a reader reads before the code', () => {
  const long = code.flatMap((path) =>
    commentBlocks(textOf(path))
      .filter(({ atFunction, words }) => atFunction && words.length > commentLinesMax)
      .map(({ line, words }) => `${path}:${line}: ${words.length} lines`),
  );
  expect(long).toEqual([]);
});

test('no comment or document is a riddle', () => {
  expect([
    ...[...code, ...protos].flatMap((path) => riddlesIn(path, commentsOf(path))),
    ...documents.flatMap((path) => riddlesIn(path, proseLines(textOf(path)))),
  ]).toEqual([]);
});

test('no test name is half a sentence, because a failure list shows it alone', () => {
  const half = /^(also|and|at|because|but|for|nor|of|or|than|that|to|which|whose|within)\b/;
  const names = code.flatMap((path) => testNames(textOf(path)).map((found) => ({ path, ...found })));
  expect(names.length).toBeGreaterThan(500);
  expect(names.filter(({ name }) => half.test(name)).map(({ path, line, name }) => `${path}:${line}: ${name}`)).toEqual(
    [],
  );
});
