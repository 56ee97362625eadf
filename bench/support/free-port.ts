import { createServer } from 'node:net';

/**
 * Below the ports that the system gives to clients (from 32,768 on): one of those may have gone to a connection by the time a server
 * listens, a second after it was found to be free. Each process looks through a hundred of its own, so that those that run at the same time
 * do not find the same.
 */
const portsEach = 100;
const firstPort = 10_000 + (process.pid % 220) * portsEach;
let looked = 0;

/** A TCP port of 127.0.0.1 that nobody listens on at this moment, and not the one that was asked for before. */
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
