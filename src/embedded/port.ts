import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';

/**
 * The port of the last start if it is free, so that written-down connection strings stay valid;
 * else a free one.
 */
export async function choosePort(directory: string): Promise<number> {
  const file = join(directory, 'port');
  const last = Number.parseInt(await readFile(file, 'utf8').catch(() => ''), 10);
  const port = Number.isInteger(last) && (await isFree(last)) ? last : await freePort();
  await writeFile(file, `${String(port)}\n`);
  return port;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    server.close();
    await once(server, 'close');
    return true;
  } catch {
    return false;
  }
}
