import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { closed } from '../rpc/raw-call.ts';

/**
 * Stands between clients and a port of the broker, so that a client can vanish as a machine does,
 * without a word.
 */
export class Relay {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #toBroker: Promise<void>[] = [];
  #held = false;
  #silent = false;

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (client) => {
      const broker = connect(target, '127.0.0.1');
      this.#toBroker.push(closed(broker));
      for (const [from, to] of [
        [client, broker],
        [broker, client],
      ] as const) {
        this.#sockets.add(from);
        from.on('error', () => undefined);
        from.on('close', () => to.destroy());
        from.on('data', (chunk: Buffer) => {
          if (!this.#silent) to.write(chunk);
        });
        if (this.#held) from.pause();
      }
    });
  }

  static async open(target: number): Promise<Relay> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Relay(server, target);
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Cuts every connection, as the end of a process does. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Swallows everything from now on, and closes nothing, as a machine without power does. */
  silence(): void {
    this.#silent = true;
  }

  /** Lets nothing through for a while, and loses nothing, as a network that is away. */
  hold(): void {
    this.#held = true;
    for (const socket of this.#sockets) socket.pause();
  }

  letThrough(): void {
    this.#held = false;
    for (const socket of this.#sockets) socket.resume();
  }

  /** Resolves when every current connection to the broker is closed, by either side. */
  async closed(): Promise<void> {
    await Promise.all(this.#toBroker);
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
