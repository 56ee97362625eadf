import { execFile, type SpawnOptions } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/**
 * As whom PostgreSQL runs: it refuses to run as root.
 *
 * - self: the broker's own user.
 * - account: another user of the machine; only root can do that.
 * - namespace: the broker's own user, who is called `nobody` inside a user namespace. It needs no other permissions on
 *   any file than the broker has, so it works below a home directory of mode 0700.
 */
export type Identity =
  | { readonly kind: 'self'; readonly uid: number; readonly gid: number }
  | { readonly kind: 'account'; readonly uid: number; readonly gid: number }
  | { readonly kind: 'namespace'; readonly uid: number; readonly gid: number };

/** A program and its arguments, changed so that it runs as somebody else. */
export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly options: SpawnOptions;
}

/** The broker's own user. */
export function ownUser(): { uid: number; gid: number } {
  return { uid: process.getuid?.() ?? -1, gid: process.getgid?.() ?? -1 };
}

/** initdb looks its user up and fails for a uid without a passwd entry, as containers like to use. */
export function hasPasswdEntry(): boolean {
  try {
    userInfo();
    return true;
  } catch {
    return false;
  }
}

/** The unprivileged account that PostgreSQL runs under when the broker is root; null where there is none. */
export async function unprivilegedAccount(): Promise<{ uid: number; gid: number } | null> {
  const passwd = await readFile('/etc/passwd', 'utf8').catch(() => '');
  const fields = /^nobody:.*$/m.exec(passwd)?.[0].split(':');
  const uid = Number(fields?.[2]);
  const gid = Number(fields?.[3]);
  return uid > 0 && gid > 0 ? { uid, gid } : null;
}

/** The files that PostgreSQL makes belong to this user. In a namespace that is the broker's own, under another name. */
export function ownerOfFiles(identity: Identity): { uid: number; gid: number } {
  return identity.kind === 'account' ? { uid: identity.uid, gid: identity.gid } : ownUser();
}

/** What to spawn so that `file` runs as `identity`. */
export function commandAs(identity: Identity, file: string, args: readonly string[]): Command {
  // A working directory that the other user cannot enter would fail the program before it begins.
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

/** PG* variables of the broker's environment would change what initdb and postgres do; locale only their messages. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}
