import { execFile } from 'node:child_process';
import { mkdtemp, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = new URL('../../', import.meta.url);

/** Another tree, to start a broker from. */
export interface OtherTree {
  readonly root: URL;
  remove(): Promise<void>;
}

/**
 * Takes a directory as it is. Checks a commit out into a temporary git worktree, which shares the
 * packages of this tree. A commit that needs other packages must be given as a directory.
 * @throws Error if git does not know the commit
 */
export async function otherTree(place: string): Promise<OtherTree> {
  if (await isDirectory(place)) return { root: pathToFileURL(`${place}/`), remove: () => Promise.resolve() };
  const parent = await mkdtemp(join(tmpdir(), 'millrace-tree-'));
  const tree = join(parent, 'tree');
  await git('worktree', 'add', '--detach', tree, place);
  await symlink(fileURLToPath(new URL('node_modules', root)), join(tree, 'node_modules'));
  return {
    root: pathToFileURL(`${tree}/`),
    remove: async () => {
      await git('worktree', 'remove', '--force', tree);
      await rm(parent, { recursive: true, force: true });
    },
  };
}

function git(...args: string[]): Promise<unknown> {
  return run('git', args, { cwd: root });
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
