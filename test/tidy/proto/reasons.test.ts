import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { codes } from '../../../src/rpc/edge/error-row.ts';
import { documentedCodes } from '../../broker/refusal.ts';

const folder = new URL('../../../proto/millrace/v1/', import.meta.url);

test('an error that the proto promises is in docs/errors.md, with the same code', () => {
  const promise = new RegExp(
    `\\b(${Object.keys(codes).join('|')})[ ,]+([A-Z]+(?:_[A-Z]+)*|BUG)\\b(?: or ([A-Z_]{4,}))?`,
    'g',
  );
  const wrong: string[] = [];
  let promises = 0;
  for (const file of readdirSync(folder)) {
    // Comments run over lines, and "(why)" may stand between two reasons.
    const text = readFileSync(new URL(file, folder), 'utf8')
      .replaceAll(/\n\s*\/\/ ?/g, ' ')
      .replaceAll(/ \([^)]*\)/g, '');
    for (const [, code, ...reasons] of text.matchAll(promise)) {
      for (const reason of reasons.filter((each) => each !== undefined)) {
        promises++;
        if (documentedCodes.get(reason) !== code) wrong.push(`${file}: ${code} ${reason}`);
      }
    }
  }
  expect(wrong).toEqual([]);
  expect(promises).toBeGreaterThan(40);
});
