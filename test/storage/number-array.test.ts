import fc from 'fast-check';
import { Client } from 'pg';
import { expect, test } from 'vitest';
import { asBuffer, bigintArray, integerArray, textArray } from '../../src/storage/number-array.ts';
import { property } from '../coordinator/property.ts';
import { createTestDatabase } from '../support/database.ts';

const itself = (value: number): number => value;
const edges = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1];
const bigints = fc.array(fc.oneof(fc.constantFrom(...edges), fc.nat(Number.MAX_SAFE_INTEGER)), { maxLength: 20 });
const integers = fc.array(fc.integer(), { maxLength: 20 });
const texts = fc.array(
  fc.string({ unit: 'grapheme', maxLength: 10 }).filter((text) => !text.includes('\0')),
  { maxLength: 5 },
);

test('the server reads every number and text that is written, also none', async () => {
  const database = await createTestDatabase();
  const client = new Client({ connectionString: database.url });
  await client.connect();
  try {
    await fc.assert(
      fc.asyncProperty(integers, bigints, texts, async (some, long, words) => {
        const { rows } = await client.query<[number[], string[], string[]]>({
          name: 'arrays',
          rowMode: 'array',
          text: 'SELECT $1::integer[], $2::bigint[], $3::text[]',
          values: [integerArray(some, itself), bigintArray(long, itself), textArray(words)].map(asBuffer),
        });
        const [[read, readLong, readWords]] = rows as [(typeof rows)[0]];
        expect([read, readLong.map(Number), readWords]).toEqual([some, long, words]);
      }),
      property(300),
    );
  } finally {
    await client.end();
    await database.drop();
  }
});
