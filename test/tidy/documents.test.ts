import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { inlineCode } from '../support/markdown.ts';

const root = new URL('../../', import.meta.url).pathname;
const documents = [
  'README.md',
  'CHANGELOG.md',
  ...globSync(['docs/*.md', 'examples/*/*.md', 'deploy/*.md'], { cwd: root }),
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
