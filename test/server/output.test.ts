import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { limits } from '../../src/limits/limits.ts';
import { createLogger } from '../../src/server/logger.ts';
import { Output } from '../../src/server/output.ts';
import { FakeClock } from '../support/fake-clock.ts';

/** A stream whose reader takes a chunk when the test releases it. */
class Held extends Writable {
  fd = -1;
  readonly isTTY: boolean;
  taken = '';
  blocking: boolean | null = null;
  readonly _handle = { setBlocking: (blocking: boolean) => (this.blocking = blocking) };
  #next: (() => void) | null = null;

  constructor(isTTY = false) {
    super({ highWaterMark: 16_384 });
    this.isTTY = isTTY;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#next = () => {
      this.taken += chunk.toString();
      done();
    };
  }

  /** Takes all that there is. */
  async read(): Promise<void> {
    while (this.#next !== null) {
      const next = this.#next;
      this.#next = null;
      next();
      await Promise.resolve();
    }
  }
}

function linesOf(text: string): Record<string, unknown>[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

const line = `${'x'.repeat(1_023)}\n`;

describe('a log that nobody reads', () => {
  test('does not fill the memory: beyond its limit whole lines are dropped', () => {
    const stream = new Held();
    const output = new Output(stream);
    for (let count = 0; count < 10_000; count += 1) output.write(line);
    expect(stream.writableLength).toBeLessThanOrEqual(limits.logBytesMax);
    expect(stream.writableLength).toBeGreaterThan(limits.logBytesMax - line.length);
  });

  test('says how many lines it lost, once, when it is read again', async () => {
    const stream = new Held();
    const log = createLogger('info', 'one', new Output(stream));
    for (let count = 0; count < 10_000; count += 1) log.info({ count }, 'x'.repeat(1_000));
    await stream.read();
    const lines = linesOf(stream.taken);
    const last = lines.at(-1)!;
    expect(last).toMatchObject({ level: 40, droppedLines: 10_000 - (lines.length - 1) });
    expect(lines.filter((each) => 'droppedLines' in each)).toHaveLength(1);
    log.info('it flows');
    await stream.read();
    expect(linesOf(stream.taken).at(-1)).toMatchObject({ msg: 'it flows' });
  });

  test('holds up the end of the process for its time only', async () => {
    const clock = new FakeClock();
    const output = new Output(new Held());
    output.write(line);
    let over = false;
    const flushed = output.flushed(clock).then(() => (over = true));
    await clock.advance(limits.logFlushMs - 1);
    expect(over).toBe(false);
    await clock.advance(1);
    await flushed;
  });

  test('does not hold it up once it is read', async () => {
    const stream = new Held();
    const output = new Output(stream);
    output.write(line);
    const flushed = output.flushed(new FakeClock());
    await stream.read();
    await flushed;
    expect(stream.taken).toBe(line);
  });
});

test('a reader that is gone ends neither the broker nor its end', async () => {
  const stream = new Held();
  const output = new Output(stream);
  output.write(line);
  const flushed = output.flushed(new FakeClock());
  stream.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  await flushed;
  output.write(line);
  await output.flushed(new FakeClock());
});

test('a terminal that is stopped does not stop the broker', () => {
  const stream = new Held(true);
  expect(new Output(stream).isTerminal).toBe(true);
  expect(stream.blocking).toBe(false);
});

test('a log in a file is written line by line, and goes on after the disk was full', () => {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-output-'));
  onTestFinished(() => {
    rmSync(directory, { recursive: true });
  });
  const path = join(directory, 'log');
  const stream = new Held();
  const file = Object.assign(stream, { fd: openSync(path, 'w') });
  const output = new Output(file);
  let dropped = 0;
  output.onResume = (count) => (dropped = count);
  output.write('one\n');
  // Any error of the system will do; this one needs no disk of its own.
  const { fd } = file;
  Object.assign(file, { fd: 999_999 });
  output.write('two\n');
  Object.assign(file, { fd });
  output.write('three\n');
  expect([readFileSync(path, 'utf8'), dropped]).toEqual(['one\nthree\n', 1]);
});
