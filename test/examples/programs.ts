import { spawn } from 'node:child_process';
import { onTestFinished } from 'vitest';

/**
 * After its last word a program has this long to end: less than the 10 s after which a forgotten
 * stream would tell it.
 */
const silenceMsMax = 6_000;

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/**
 * Runs a program. @returns what it printed. @throws Error with that, if it fails, or prints and
 * then does not end.
 */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  let output = '';
  let silence: NodeJS.Timeout | undefined;
  const collect = (chunk: Buffer): void => {
    output += chunk.toString();
    clearTimeout(silence);
    silence = setTimeout(() => child.kill('SIGKILL'), silenceMsMax);
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(silence);
      if (code === 0) resolve(output);
      else reject(new Error(`${program} ${args.join(' ')}: ${signal ?? code}\n${output}`));
    });
  });
}
