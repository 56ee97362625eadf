import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { findSource, lineRecords, stanzas } from '../../bench/demo/source.ts';
import type { SourceRecord } from '../../bench/demo/source.ts';

const removals: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const remove of removals.splice(0)) await remove();
});

async function all(records: AsyncIterable<SourceRecord>): Promise<SourceRecord[]> {
  const found: SourceRecord[] = [];
  for await (const record of records) found.push(record);
  return found;
}

describe('stanzas of a package list', () => {
  it('packages of one source share its key, whatever version it names', async () => {
    const text = 'Package: libc6\nSource: glibc (2.36-9)\n\nPackage: libc-bin\nSource: glibc\nSection: libs\n';
    expect((await all(stanzas(text.split('\n')))).map(({ key }) => key)).toEqual(['glibc', 'glibc']);
  });

  it('a package without a source is its own', async () => {
    expect(await all(stanzas(['Package: bash', 'Version: 5.2']))).toEqual([
      { key: 'bash', value: 'Package: bash\nVersion: 5.2' },
    ]);
  });

  it('empty lines before, between and after stanzas make no records', async () => {
    expect(await all(stanzas(['', '', 'Package: a', '', '', 'Package: b', '', '']))).toHaveLength(2);
  });

  it('a line that continues a field is no field', async () => {
    const [record] = await all(stanzas(['Package: a', 'Description: one', ' Source: not this']));
    expect(record?.key).toBe('a');
  });
});

describe('lines of a file', () => {
  it('text is keyed by its first word, and empty lines are none', async () => {
    expect(await all(lineRecords(['  one two', '', 'three'], 'key'))).toEqual([
      { key: 'one', value: '  one two' },
      { key: 'three', value: 'three' },
    ]);
  });

  it('JSON is keyed by the field that is asked for, of any type, or has no key', async () => {
    const lines = ['{"id":"a"}', '{"id":7}', '{"other":1}'];
    expect((await all(lineRecords(lines, 'id'))).map(({ key }) => key)).toEqual(['a', '7', '']);
  });

  it('text that only looks like JSON is text', async () => {
    expect((await all(lineRecords(['{broken json'], 'key')))[0]?.key).toBe('{broken');
  });

  it('a key never exceeds what the broker takes', async () => {
    const [record] = await all(lineRecords(['ä'.repeat(5_000)], 'key'));
    expect(Buffer.byteLength(record!.key)).toBeLessThanOrEqual(1_024);
  });
});

describe('source', () => {
  it('a given file comes before what the machine has', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-source-'));
    removals.push(() => rm(directory, { recursive: true }));
    const file = join(directory, 'lines.txt');
    await writeFile(file, 'a 1\nb 2\r\n');
    const source = await findSource(file, 'key');
    expect(source.name).toBe(file);
    expect(await all(source.records)).toEqual([
      { key: 'a', value: 'a 1' },
      { key: 'b', value: 'b 2' },
    ]);
  });

  it('without one there is always something to stream', async () => {
    const source = await findSource(null, 'key');
    for await (const record of source.records) {
      expect(record.value.length).toBeGreaterThan(0);
      return;
    }
    expect.unreachable(`${source.name} has no records`);
  });
});
