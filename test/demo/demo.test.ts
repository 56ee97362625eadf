import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';

const program = new URL('../../bench/demo/main.ts', import.meta.url).pathname;

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'millrace-demo-test-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

/**
 * The demo in a process group of its own, as in a terminal, with a directory of its own for its
 * data.
 */
class Demo {
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  readonly #data: string;
  #output = '';

  constructor(data: string, args: readonly string[]) {
    this.#data = data;
    this.#child = spawn(process.execPath, [program, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: data, NODE_DISABLE_COMPILE_CACHE: '1' },
      detached: true,
    });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    }
    this.ended = new Promise((resolve) => {
      this.#child.once('close', resolve);
    });
    onTestFinished(() => {
      this.#child.kill('SIGKILL');
    });
  }

  get output(): string {
    return this.#output;
  }

  async shows(text: string): Promise<void> {
    await expect.poll(() => this.#output, { timeout: 30_000 }).toContain(text);
  }

  /** 'group' is Ctrl-C, which reaches the broker and all members too. */
  interrupt(whom: 'demo' | 'group'): void {
    process.kill(whom === 'demo' ? this.#child.pid! : -this.#child.pid!, 'SIGINT');
  }

  /** Command lines that name this demo's data or topic, and files. */
  async leftOver(): Promise<string[]> {
    const lines = (await readdir('/proc'))
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''));
    const ours = (line: string): boolean => line.includes(this.#data) || line.includes(`demo-${this.#child.pid}-`);
    return [...(await Promise.all(lines)).filter(ours), ...(await readdir(this.#data))];
  }
}

async function runDemo(...args: string[]): Promise<{ code: number | null; output: string; leftOver: string[] }> {
  const demo = new Demo(await directory(), args);
  const code = await demo.ended;
  return { code, output: demo.output, leftOver: await demo.leftOver() };
}

describe('demo', () => {
  it('members that are killed and streams that break lose nothing and keep the order of each key', async () => {
    const { code, output, leftOver } = await runDemo('--limit', '3000', '--rate', '3000', '--kills', '6');
    expect(output).toMatch(/audit .*3,000\s+0\s+[\d,]+\s+0\s/);
    expect(output).toMatch(/search .*3,000\s+0\s+[\d,]+\s+0\s/);
    expect(output).toMatch(/mirror .*3,000\s+0\s+[\d,]+\s+0\s/);
    expect(output).toMatch(/[1-9] killed/);
    expect(code, output).toBe(0);
    expect(leftOver).toEqual([]);
  }, 120_000);

  it('streams a file that was read long before anybody asks for its lines', async () => {
    const lines = Array.from({ length: 500 }, (_, i) => JSON.stringify({ user: `u${i % 7}`, i }));
    const file = join(await directory(), 'lines');
    await writeFile(file, ['some text', '', ...lines].join('\n'));
    const { code, output } = await runDemo('--file', file, '--key', 'user', '--kills', '2', '--rate', '0');
    expect(output).toContain('501 records published to 3 groups');
    expect(code, output).toBe(0);
  }, 120_000);

  it.each(['demo', 'group'] as const)(
    'a SIGINT to the %s while it streams leaves nothing behind',
    async (whom) => {
      const demo = new Demo(await directory(), ['--limit', '100000', '--rate', '1000']);
      await demo.shows('published ');
      demo.interrupt(whom);
      const askedAt = performance.now();
      expect(await demo.ended, demo.output).toBe(130);
      expect(performance.now() - askedAt).toBeLessThan(10_000);
      expect(await demo.leftOver()).toEqual([]);
    },
    120_000,
  );

  it.each(['demo', 'group'] as const)(
    'a SIGINT to the %s while the broker starts leaves nothing behind',
    async (whom) => {
      const demo = new Demo(await directory(), ['--limit', '100000']);
      await demo.shows('starting a broker');
      demo.interrupt(whom);
      expect(await demo.ended, demo.output).toBe(130);
      expect(await demo.leftOver()).toEqual([]);
    },
    120_000,
  );

  it.each([
    ['a wrong flag', ['--limit', 'many'], /^--limit: many is not a number of 0 or more\n$/],
    ['a flag that there is not', ['--nothing'], /^Unknown option '--nothing'.*\n$/],
    ['a file that there is not', ['--file', '/none/such'], /^\/none\/such cannot be read: ENOENT.*\n$/],
    ['a directory', ['--file', '/'], /^\/ cannot be read: EISDIR.*\n$/],
    ['a file without lines', ['--file', '/dev/null'], /^\/dev\/null has no records\n$/],
    ['nobody at the address', ['--address', '127.0.0.1:1'], /^source: .*\n127\.0\.0\.1:1: .*ECONNREFUSED.*\n$/],
  ])('%s ends it at once, with a line that says so', async (_, args, line) => {
    const { code, output, leftOver } = await runDemo(...args);
    expect(output).toMatch(line);
    expect(code).toBe(1);
    expect(leftOver).toEqual([]);
  });
});
