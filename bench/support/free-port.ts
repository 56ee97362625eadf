import { createServer } from 'node:net';

/**
 * The ports are below those that the system gives to clients (from 32,768 on), because a client
 * could take such a port before the server listens. Each process has a hundred ports of its own, so
 * that concurrent processes do not find the same one.
 */
const portsEach = 100;
const firstPort = 10_000 + (process.pid % 220) * portsEach;
let looked = 0;

/** A free TCP port of 127.0.0.1, other than that of the call before. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < portsEach; tries++) {
    const port = firstPort + (looked++ % portsEach);
    if (await isFree(port)) return port;
  }
  throw new Error(`no port from ${firstPort} to ${firstPort + portsEach - 1} is free`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => {
      resolve(false);
    });
    server.listen(port, '127.0.0.1', () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}
