import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A way to a database that counts the statements on it. */
export interface CountedQueries {
  /** The connection string of this way. */
  readonly url: string;
  /** How many statements all clients have sent. */
  sent(): number;
  close(): void;
}

/** Types of messages that run a statement: a simple query, and the execution of a prepared one. */
const queryType = 0x51;
const executeType = 0x45;

/** Counts every statement, also those that begin, fence and end a transaction. */
export async function countQueries(databaseUrl: string): Promise<CountedQueries> {
  const place = placeOf(databaseUrl);
  const sockets = new Set<Socket>();
  let sent = 0;
  const server = createServer((client) => {
    const database = connect(place);
    const statementsIn = statementScanner();
    client.on('data', (chunk: Buffer) => {
      sent += statementsIn(chunk);
    });
    for (const [from, to] of [
      [client, database],
      [database, client],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => undefined);
      from.on('close', () => {
        sockets.delete(from);
        to.end();
      });
    }
  });
  server.unref();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = new URL(databaseUrl);
  url.searchParams.delete('host');
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    sent: () => sent,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Where the database listens: `host` may be the directory of its socket. */
function placeOf(databaseUrl: string): { readonly path: string } | { readonly host: string; readonly port: number } {
  const { hostname, port, searchParams } = new URL(databaseUrl);
  const directory = searchParams.get('host');
  if (directory?.startsWith('/') === true) return { path: `${directory}/.s.PGSQL.${port}` };
  return { host: hostname, port: Number(port) };
}

/**
 * Follows what one client sends.
 * @returns a scan, which counts the statements that begin in a chunk.
 */
function statementScanner(): (chunk: Buffer) => number {
  let header = Buffer.alloc(0);
  let bodyLeft = 0;
  // The first message of a connection has a length and no type.
  let typeBytes = 0;
  return (chunk) => {
    let statements = 0;
    for (let at = 0; at < chunk.length;) {
      if (bodyLeft > 0) {
        const skipped = Math.min(bodyLeft, chunk.length - at);
        bodyLeft -= skipped;
        at += skipped;
        continue;
      }
      const part = chunk.subarray(at, at + typeBytes + 4 - header.length);
      header = Buffer.concat([header, part]);
      at += part.length;
      if (header.length < typeBytes + 4) break;
      if (typeBytes === 1 && (header[0] === queryType || header[0] === executeType)) statements += 1;
      bodyLeft = header.readUInt32BE(typeBytes) - 4;
      header = Buffer.alloc(0);
      typeBytes = 1;
    }
    return statements;
  };
}
