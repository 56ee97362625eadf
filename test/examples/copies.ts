import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { codeBlocks, shellCommands } from '../support/markdown.ts';
import { run } from './programs.ts';

const root = new URL('../../', import.meta.url).pathname;
const copies = new Map<string, { readonly directory: string; readonly built: Promise<void> }>();

/**
 * An example in a directory of its own, as a reader who copies it has it, built by its README's
 * commands.
 */
export async function copyOf(example: string): Promise<string> {
  let copy = copies.get(example);
  if (copy === undefined) {
    const directory = mkdtempSync(join(tmpdir(), `millrace-${example}-`));
    copy = { directory, built: build(example, directory) };
    copies.set(example, copy);
  }
  await copy.built;
  return copy.directory;
}

export function removeCopies(): void {
  for (const { directory } of copies.values()) rmSync(directory, { recursive: true, force: true });
  copies.clear();
}

async function build(example: string, directory: string): Promise<void> {
  for (const folder of ['proto', 'src/rpc/proto', `examples/${example}`]) {
    mkdirSync(join(directory, folder, '..'), { recursive: true });
    const notStubs = (source: string): boolean => !source.endsWith('/gen');
    cpSync(join(root, folder), join(directory, folder), { recursive: true, filter: notStubs });
  }
  for (const command of generatingCommands(example)) {
    if (isInstall(command)) {
      // Everything that the command fetches is on this machine.
      if (example === 'typescript') symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
    } else await run('sh', ['-c', command], { cwd: directory });
  }
}

/** The commands of the first block of the README that makes the stubs. */
function generatingCommands(example: string): string[] {
  const readme = readFileSync(join(root, 'examples', example, 'README.md'), 'utf8');
  const block = codeBlocks(readme).find(({ text }) => /protoc\b|buf generate/.test(text));
  return shellCommands(block!.text);
}

const isInstall = (command: string): boolean => /^(apt-get|npm) install /.test(command);

/** The packages that the README of an example installs. */
export function packagesOf(example: string): string[] {
  return generatingCommands(example)
    .filter(isInstall)
    .flatMap((command) => command.split(/\s+/))
    .filter((word) => /^(@\w+\/)?[a-z0-9.-]+$/.test(word) && !/^(-.*|apt-get|npm|install)$/.test(word));
}

/**
 * The first Debian package that an example needs and this machine does not have; null: the example
 * must work.
 */
export function missingPackage(example: string): string | null {
  for (const name of packagesOf(example)) {
    const { stdout } = spawnSync('dpkg-query', ['-W', '-f=${db:Status-Status}', name], { encoding: 'utf8' });
    if (stdout !== 'installed') return name;
  }
  return null;
}
