import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const root = new URL('../../', import.meta.url).pathname;
const running = new Set<ChildProcess>();

/**
 * What a machine has that has nothing but Node 24: no program of this repository's node_modules
 * comes first in PATH.
 */
const environment = {
  HOME: process.env['HOME'],
  PATH: [dirname(process.execPath), '/usr/local/bin', '/usr/bin', '/bin'].join(':'),
};

/** A program in a folder, with all that it wrote. */
export class Program {
  readonly process: ChildProcess;
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  output = '';

  constructor(command: readonly string[], cwd: string, env: Readonly<Record<string, string>> = {}) {
    const [program, ...args] = command;
    this.process = spawn(program!, args, { cwd, env: { ...environment, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(this.process);
    for (const stream of [this.process.stdout!, this.process.stderr!]) {
      stream.on('data', (chunk: Buffer) => (this.output += chunk.toString()));
    }
    this.ended = once(this.process, 'close').then(([code, signal]) => {
      running.delete(this.process);
      return { code: code as number | null, signal: signal as NodeJS.Signals | null };
    });
  }
}

/** Runs a program to its end. @returns what it wrote. @throws Error with that if it fails. */
export async function runIn(cwd: string, ...command: string[]): Promise<string> {
  const program = new Program(command, cwd);
  const { code, signal } = await program.ended;
  if (code === 0) return program.output;
  throw new Error(`${command.join(' ')}: ${signal ?? code}\n${program.output}`);
}

/** An empty folder into which the package, packed from this repository, was installed. */
export interface Installation {
  readonly directory: string;
  /** The files of the package, from its own root. */
  readonly files: readonly string[];
  remove(): void;
}

type Locked = Readonly<Record<string, unknown>>;

/**
 * A lock file for a folder that depends on the packed file alone, with the versions of this
 * repository's: npm's cache has them since npm ci, so the installation needs no network, and what
 * is released today cannot fail a test.
 */
function lockFor(tarball: string): object {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    readonly packages: Readonly<Record<string, Locked>>;
  };
  const { name, version, dependencies, bin, engines } = packages['']!;
  const ofWorkspace = Object.keys(packages['.ci']!['optionalDependencies'] as object);
  const installed = Object.entries(packages).filter(
    ([path, { dev, link }]) =>
      path.startsWith('node_modules/') &&
      dev !== true &&
      link !== true &&
      !ofWorkspace.includes(path.replace('node_modules/', '')),
  );
  return {
    lockfileVersion: 3,
    packages: {
      '': { dependencies: { [name as string]: tarball } },
      [`node_modules/${name as string}`]: { version, resolved: tarball, dependencies, bin, engines },
      ...Object.fromEntries(installed),
    },
  };
}

export async function installPackage(): Promise<Installation> {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-package-'));
  const packed = join(directory, 'packed');
  mkdirSync(packed);
  await runIn(root, 'npm', 'pack', '--ignore-scripts=false', '--pack-destination', packed);
  const tarball = join(packed, (await runIn(packed, 'ls')).trim());
  const listing = await runIn(packed, 'tar', 'tzf', tarball);
  const { name } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { name: string };
  const file = `file:${tarball}`;
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ dependencies: { [name]: file } }));
  writeFileSync(join(directory, 'package-lock.json'), JSON.stringify(lockFor(file)));
  const quiet = ['--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund'];
  await runIn(directory, 'npm', 'ci', ...quiet);
  return {
    directory,
    files: listing
      .trim()
      .split('\n')
      .map((path) => path.replace(/^package\//, '')),
    remove: () => {
      for (const child of running) child.kill('SIGKILL');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
