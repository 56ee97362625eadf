import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import type { DatabaseHost, TlsSettings } from '../../address/database-address.ts';
import { isSocket } from '../../address/database-address.ts';

/** TLS with the rules that verify the server; false: no TLS. */
export type Encryption = ConnectionOptions | false;

/** libpq's name for the certificates that the runtime trusts. */
const systemRoots = 'system';

/**
 * What libpq tries in this mode, in its order. The second is for servers that refuse the first. A
 * Unix socket has no TLS in any mode.
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
    // Always given, because NODE_TLS_REJECT_UNAUTHORIZED decides when it is missing.
    rejectUnauthorized: verifies,
    // TLS verifies this name, even if the connection goes to an address that was looked up before.
    host,
    // The name tells servers behind one address apart. `pg` sends none when it connects to an
    // address.
    ...(isIP(host) === 0 && { servername: host }),
    ...(mode !== 'verify-full' && { checkServerIdentity: () => undefined }),
    ...(verifies && rootCert !== null && rootCert !== systemRoots && { ca: await file('sslrootcert', rootCert) }),
    ...(cert !== null && { cert: await file('sslcert', cert) }),
    ...(key !== null && { key: await file('sslkey', key) }),
  };
}

/**
 * Reads the file for each connection, so that an operator can renew a certificate without a
 * restart.
 */
async function file(parameter: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new Error(`${parameter} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
