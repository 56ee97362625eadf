import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';

const directory = new URL('../../../proto/millrace/v1/', import.meta.url);

interface Quote {
  readonly where: string;
  readonly name: string;
  readonly value: number;
}

/**
 * `some_limit_max = 123`, and `1s to 60s (some_ms_min, some_ms_max)`, in the comments of the proto
 * files.
 */
function quotedLimits(): Quote[] {
  return readdirSync(directory).flatMap((file) =>
    readFileSync(new URL(file, directory), 'utf8')
      .split('\n')
      .flatMap((line, index) => {
        const comment = line.includes('//') ? line.slice(line.indexOf('//')) : '';
        return [...numbersIn(comment), ...durationsIn(comment)].map((quote) => ({
          ...quote,
          where: `${file}:${index + 1}`,
        }));
      }),
  );
}

function numbersIn(comment: string): Omit<Quote, 'where'>[] {
  const found = comment.matchAll(/([a-z]+(?:_[a-z]+)*_(?:max|min|default|ms|bytes)) = ([\d_,]*\d)/g);
  return [...found].map(([, name = '', digits = '']) => ({ name, value: Number(digits.replaceAll(/[_,]/g, '')) }));
}

function durationsIn(comment: string): Omit<Quote, 'where'>[] {
  const found = comment.matchAll(/([\d.]+)s to ([\d.]+)s \((\w+_ms_min), (\w+_ms_max)\)/g);
  return [...found].flatMap(([, from, to, min = '', max = '']) => [
    { name: min, value: Number(from) * 1_000 },
    { name: max, value: Number(to) * 1_000 },
  ]);
}

function camelCase(name: string): string {
  return name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

test('a limit that the proto tells its readers is the one that the broker runs with', () => {
  const quotes = quotedLimits();
  expect(quotes.length).toBeGreaterThan(40);
  const known: Readonly<Record<string, number>> = limits;
  const wrong = quotes
    .filter(({ name, value }) => known[camelCase(name)] !== value)
    .map(({ where, name, value }) => `${where}: ${name} = ${value}, in limits.ts ${known[camelCase(name)]}`);
  expect(wrong).toEqual([]);
});

test('a limit that the proto names without its value exists', () => {
  const wrong: string[] = [];
  for (const file of readdirSync(directory)) {
    const text = readFileSync(new URL(file, directory), 'utf8');
    const comments = text.split('\n').filter((line) => line.trim().startsWith('//'));
    const fields = new Set([...text.matchAll(/([a-z_]+) = \d+/g)].map((found) => found[1]));
    for (const [name] of comments.join('\n').matchAll(/\b[a-z]+(?:_[a-z]+)*_(?:max|min|default)\b/g)) {
      if (!(camelCase(name) in limits) && !fields.has(name)) wrong.push(`${file}: ${name}`);
    }
  }
  expect(wrong).toEqual([]);
});
