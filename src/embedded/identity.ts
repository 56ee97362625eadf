import { execFile, type SpawnOptions } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/**
 * The user who runs PostgreSQL, which refuses to run as root.
 *
 * - self: the broker's own user.
 * - account: another user of the machine; only root can do that.
 * - namespace: the broker's own user, named `nobody` inside a user namespace. It needs no further
 *   permissions on any file, so it works below a home directory of mode 0700.
 */
export type Identity =
  | { readonly kind: 'self'; readonly uid: number; readonly gid: number }
  | { readonly kind: 'account'; readonly uid: number; readonly gid: number }
  | { readonly kind: 'namespace'; readonly uid: number; readonly gid: number };

/** A program and its arguments, changed to run as another user. */
interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly options: SpawnOptions;
}

/** The broker's own user. */
export function ownUser(): { uid: number; gid: number } {
  return { uid: process.getuid?.() ?? -1, gid: process.getgid?.() ?? -1 };
}

/** initdb fails for a uid without a passwd entry, which containers often use. */
export function hasPasswdEntry(): boolean {
  try {
    userInfo();
    return true;
  } catch {
    return false;
  }
}

/** The unprivileged account that runs PostgreSQL for a root broker; null if there is none. */
export async function unprivilegedAccount(): Promise<{ uid: number; gid: number } | null> {
  const passwd = await readFile('/etc/passwd', 'utf8').catch(() => '');
  const fields = /^nobody:.*$/m.exec(passwd)?.[0].split(':');
  const uid = Number(fields?.[2]);
  const gid = Number(fields?.[3]);
  return uid > 0 && gid > 0 ? { uid, gid } : null;
}

/**
 * The user who owns PostgreSQL's files. In a namespace it is the broker's user under another name.
 */
export function ownerOfFiles(identity: Identity): { uid: number; gid: number } {
  return identity.kind === 'account' ? { uid: identity.uid, gid: identity.gid } : ownUser();
}

/** The command that runs `file` as `identity`. */
export function commandAs(identity: Identity, file: string, args: readonly string[]): Command {
  // The program would fail in a working directory that the other user cannot enter.
  const options: SpawnOptions = { cwd: '/', env: environment() };
  switch (identity.kind) {
    case 'self':
      return { file, args, options };
    case 'account':
      return { file, args, options: { ...options, uid: identity.uid, gid: identity.gid } };
    case 'namespace': {
      const mapping = [`--map-user=${String(identity.uid)}`, `--map-group=${String(identity.gid)}`];
      return { file: 'unshare', args: ['--user', ...mapping, '--', file, ...args], options };
    }
  }
}

/** Runs a program to its end as `identity`; rejects with its stderr. */
export async function runAs(identity: Identity, file: string, args: readonly string[]): Promise<void> {
  const command = commandAs(identity, file, args);
  await execute(command.file, command.args, command.options);
}

/**
 * Without PG* variables, which would change initdb and postgres. A locale only changes their
 * messages.
 */
function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}
