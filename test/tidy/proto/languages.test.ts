import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { expect, test } from 'vitest';

const folder = new URL('../../../proto/millrace/v1/', import.meta.url);

/** `option NAME = VALUE;` of a proto file. */
function optionsOf(file: string): Record<string, string> {
  const text = readFileSync(new URL(file, folder), 'utf8');
  const options = text.matchAll(/^option (\w+) = (?:"([^"]*)"|(\w+));$/gm);
  return Object.fromEntries(Array.from(options, ([, name, quoted, word]) => [name!, (quoted ?? word)!]));
}

test.each(readdirSync(folder))('%s generates Go and Java without a flag for each file', (file) => {
  const name = basename(file, '.proto');
  expect(optionsOf(file)).toEqual({
    go_package: 'millrace/v1;millracev1',
    java_multiple_files: 'true',
    java_outer_classname: `${name[0]!.toUpperCase()}${name.slice(1)}Proto`,
    java_package: 'com.millrace.v1',
  });
});
