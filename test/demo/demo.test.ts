import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';

const cleanUps: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
});

function runDemo(args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, ['bench/demo/main.ts', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const collect = (chunk: Buffer): void => {
    output += chunk.toString();
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  return new Promise((resolve) => {
    child.once('close', (code) => {
      resolve({ code, output });
    });
  });
}

describe('demo', () => {
  it('members that are killed and streams that break lose nothing and keep the order of each key', async () => {
    const { code, output } = await runDemo(['--limit', '3000', '--rate', '3000', '--kills', '6']);
    expect(output).toMatch(/audit .*3,000\s+0\s+\d+\s+0\s/);
    expect(output).toMatch(/search .*3,000\s+0\s+[\d,]+\s+0\s/);
    expect(output).toMatch(/mirror .*3,000\s+0\s+[\d,]+\s+0\s/);
    expect(output).toMatch(/[1-9] killed/);
    expect(code, output).toBe(0);
  }, 120_000);

  it('streams any file of lines', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-demo-test-'));
    cleanUps.push(() => rm(directory, { recursive: true, force: true }));
    const file = join(directory, 'events.jsonl');
    const lines = Array.from({ length: 500 }, (_, i) => JSON.stringify({ user: `u${i % 7}`, i }));
    await writeFile(file, lines.join('\n'));
    const { code, output } = await runDemo(['--file', file, '--key', 'user', '--kills', '2', '--rate', '0']);
    expect(output).toContain('500 records published to 3 groups');
    expect(code, output).toBe(0);
  }, 120_000);

  it('a wrong flag ends it at once, with a line that names it', async () => {
    const { code, output } = await runDemo(['--limit', 'many']);
    expect(output.trim()).toBe('--limit: many is not a number of 0 or more');
    expect(code).toBe(1);
  }, 30_000);
});
