import fc from 'fast-check';
import { Client } from 'pg';
import { expect, test } from 'vitest';
import { bigintArray, integerArray, textArray } from '../../../src/storage/pg/number-array.ts';
import { inOneRoundTrip } from '../../../src/storage/pg/one-round-trip.ts';
import { property } from '../../coordinator/property.ts';
import { createTestDatabase } from '../../support/database.ts';

const itself = (value: number): number => value;
const edges = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1];
const negative = edges.slice(1).map((edge) => -edge);
const bigints = fc.array(fc.oneof(fc.constantFrom(...edges, ...negative), fc.maxSafeInteger()), { maxLength: 20 });
const integers = fc.array(fc.integer(), { maxLength: 20 });
const texts = fc.array(
  fc.option(fc.string({ unit: 'grapheme', maxLength: 10 }).filter((text) => !text.includes('\0'))),
  { maxLength: 5 },
);

test('the server reads every number, text and null of an array, and an empty array', async () => {
  const database = await createTestDatabase();
  const client = new Client({ connectionString: database.url });
  await client.connect();
  try {
    await fc.assert(
      fc.asyncProperty(integers, bigints, texts, async (some, long, words) => {
        const [[row]] = (await inOneRoundTrip(client, [
          {
            name: 'arrays',
            text: 'SELECT to_json($1::integer[])::text, to_json($2::bigint[])::text, to_json($3::text[])::text',
            parameters: [integerArray(some, itself), bigintArray(long, itself), textArray(words)],
          },
        ])) as [[string[]]];
        expect(row.map((json) => JSON.parse(json) as unknown)).toEqual([some, long, words]);
      }),
      property(300),
    );
  } finally {
    await client.end();
    await database.drop();
  }
});
