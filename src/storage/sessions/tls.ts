import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import type { DatabaseHost, TlsSettings } from '../../address/database-address.ts';
import { isSocket } from '../../address/database-address.ts';

/** How a connection is tried: with TLS, and how it verifies the server, or without. */
export type Encryption = ConnectionOptions | false;

/** The word of libpq for the certificates that the runtime trusts. */
const systemRoots = 'system';

/**
 * The ways in which libpq tries to connect in this mode, in its order; the next one is for servers that refuse the one before. A
 * Unix socket has no TLS, whatever the mode.
 *
 * Source: https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
 */
export async function encryptionsOf(tls: TlsSettings, host: DatabaseHost): Promise<readonly Encryption[]> {
  if (isSocket(host) || tls.mode === 'disable') return [false];
  const encrypted = await encryption(tls, host.host);
  if (tls.mode === 'allow') return [false, encrypted];
  return tls.mode === 'prefer' ? [encrypted, false] : [encrypted];
}

async function encryption({ mode, rootCert, cert, key }: TlsSettings, host: string): Promise<ConnectionOptions> {
  // As in libpq, `require` with a root certificate is `verify-ca`.
  const verifies = mode === 'verify-ca' || mode === 'verify-full' || (mode === 'require' && rootCert !== null);
  return {
    // Given always: NODE_TLS_REJECT_UNAUTHORIZED decides otherwise.
    rejectUnauthorized: verifies,
    // The name that is verified, also where the connection goes to an address that was looked up before.
    host,
    // Sent to the server, which may be one of several behind an address. `pg` sends none where it connects to an address.
    ...(isIP(host) === 0 && { servername: host }),
    ...(mode !== 'verify-full' && { checkServerIdentity: () => undefined }),
    ...(verifies && rootCert !== null && rootCert !== systemRoots && { ca: await file('sslrootcert', rootCert) }),
    ...(cert !== null && { cert: await file('sslcert', cert) }),
    ...(key !== null && { key: await file('sslkey', key) }),
  };
}

/** Read for each connection, so that a certificate may be renewed. */
async function file(parameter: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new Error(`${parameter} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
