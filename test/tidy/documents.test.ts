import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { inlineCode } from '../support/markdown.ts';

const root = new URL('../../', import.meta.url).pathname;
const documents = [
  'README.md',
  'CHANGELOG.md',
  ...globSync(['docs/*.md', 'examples/*/*.md', 'deploy/*.md', 'src/**/SPEC.md', 'test/**/*.md'], { cwd: root }),
];

test.each(documents)('%s names no file that there is not', (document) => {
  const text = readFileSync(join(root, document), 'utf8');
  const paths = inlineCode(text).filter((code) =>
    /^(src|test|bench|examples|proto|drizzle|deploy|bin|\.ci)\/[\w./-]*$/.test(code),
  );
  const links = [...text.matchAll(/\]\(([^)#]+)[^)]*\)/g)].map((link) => link[1]!).filter((to) => !to.includes('://'));
  const missing = [
    ...paths.filter((path) => !existsSync(join(root, path)) && path !== 'bench/results/'),
    ...links.filter((to) => !existsSync(join(root, dirname(document), to))),
  ];
  expect(missing).toEqual([]);
});

test('the documents that are checked are found', () => {
  expect(documents.length).toBeGreaterThan(8);
});

test('each walk of docs/architecture.md fits into the head of a reader: at most twelve files decide', () => {
  const text = readFileSync(join(root, 'docs/architecture.md'), 'utf8');
  const walks = text.slice(text.indexOf('\n## Walks'), text.indexOf('\n## Where to look')).split('\n### ').slice(1);
  const filesOf = (walk: string): number => {
    const steps = walk.split(/\n(?=\d+\. |\n)/).filter((part) => /^\d+\. /.test(part));
    return new Set(inlineCode(steps.join('\n')).filter((code) => code.startsWith('src/'))).size;
  };
  const sizes = new Map(walks.map((walk) => [walk.split('\n', 1)[0]!, filesOf(walk)]));
  for (const walk of ['A publish', 'A delivery', 'An ack', 'A join']) {
    expect(sizes.get(walk), walk).toBeGreaterThan(7);
    expect(sizes.get(walk), walk).toBeLessThanOrEqual(12);
  }
});
