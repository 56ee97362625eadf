import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { CommitFinder, isCommitted } from './commit-finder.ts';

/** Where to cut a connection. One cut waits at a time, for the first connection that matches it. */
interface Cut {
  readonly where: 'before commit' | 'after commit' | 'late' | number | { readonly answerBytes: number };
  readonly done: (link: Link) => void;
}

/**
 * Stands between a client and its database, forwards all bytes, and cuts a connection where it is
 * told to.
 */
export class CuttingProxy {
  readonly url: string;
  readonly #server: Server;
  readonly #database: URL;
  readonly #sockets = new Set<Socket>();
  #cut: Cut | null = null;
  /** All that clients have sent. */
  bytesSent = 0;

  private constructor(server: Server, database: URL) {
    this.#server = server;
    this.#database = database;
    const url = new URL(database);
    url.hostname = '127.0.0.1';
    url.port = String((server.address() as AddressInfo).port);
    this.url = url.href;
    server.on('connection', (client) => {
      this.#serve(client);
    });
  }

  /** On a port of its own, or on that of one that was closed. */
  static async open(databaseUrl: string, port = 0): Promise<CuttingProxy> {
    const server = createServer();
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return new CuttingProxy(server, new URL(databaseUrl));
  }

  /**
   * Cuts the connection that sends what commits next, before the database has got that. Resolves
   * when it is cut.
   */
  async beforeCommit(): Promise<void> {
    await this.#arm('before commit');
  }

  /**
   * Cuts the connection that sends what commits next when the database has answered it, and keeps
   * the answer.
   */
  async afterCommit(): Promise<void> {
    await this.#arm('after commit');
  }

  /**
   * Cuts the connection that sends anything next, after so many bytes; no answer to them is passed
   * on.
   */
  async afterBytes(count: number): Promise<void> {
    await this.#arm(count);
  }

  /**
   * Cuts the connection that sends anything next, when so many bytes of the answer were passed on.
   */
  async afterAnswerBytes(answerBytes: number): Promise<void> {
    await this.#arm({ answerBytes });
  }

  /**
   * Cuts the client that sends what commits next off, and keeps what it sent on the way for a
   * while. Resolves when that is done, to what delivers it and waits until the database has
   * committed it or closed the connection.
   */
  async late(): Promise<() => Promise<void>> {
    const link = await this.#arm('late');
    return () => link.deliver();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #arm(where: Cut['where']): Promise<Link> {
    return new Promise((done) => {
      this.#cut = { where, done };
    });
  }

  #serve(client: Socket): void {
    const database = connect(Number(this.#database.port || 5432), this.#database.hostname);
    const link = new Link(client, database, (commits) => this.#take(commits));
    client.on('data', (chunk: Buffer) => {
      this.bytesSent += chunk.length;
      link.sent(chunk);
    });
    for (const socket of [client, database]) {
      socket.setNoDelay(true);
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        link.end();
      });
    }
  }

  /** The cut that what was sent calls for, if one waits. */
  #take(commits: boolean): Cut | null {
    const cut = this.#cut;
    if (cut === null || (typeof cut.where === 'string' && !commits)) return null;
    this.#cut = null;
    return cut;
  }
}

/** One connection through the proxy. */
class Link {
  readonly #client: Socket;
  readonly #database: Socket;
  readonly #take: (commits: boolean) => Cut | null;
  readonly #commits = new CommitFinder();
  #cut: Cut | null = null;
  #answers: Buffer = Buffer.alloc(0);
  #bytesLeft = 0;
  #answerBytes = 0;
  /** Sent, and not delivered yet. */
  #late: Buffer | null = null;
  #delivered: () => void = () => undefined;

  constructor(client: Socket, database: Socket, take: (commits: boolean) => Cut | null) {
    this.#client = client;
    this.#database = database;
    this.#take = take;
    database.on('data', (chunk: Buffer) => {
      this.#answered(chunk);
    });
  }

  /** Both ends end, each with what was forwarded to it. */
  end(): void {
    this.#client.destroy();
    if (this.#late === null) this.#database.end();
    this.#delivered();
  }

  /** Gives the database what was kept on the way; resolves when it is done with it. */
  async deliver(): Promise<void> {
    if (this.#database.closed) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#delivered = resolve;
    this.#database.write(this.#late!);
    this.#late = null;
    await promise;
  }

  sent(chunk: Buffer): void {
    const commitAt = this.#commits.find(chunk);
    if (this.#cut === null) {
      this.#cut = this.#take(commitAt !== null);
      if (typeof this.#cut?.where === 'number') this.#bytesLeft = this.#cut.where;
    }
    if (this.#cut?.where === 'late') {
      this.#late = chunk;
      this.#finish();
      return;
    }
    const forwarded = chunk.subarray(0, this.#bytesToForward(chunk, commitAt));
    this.#bytesLeft -= forwarded.length;
    this.#database.write(forwarded);
    const atBytes = typeof this.#cut?.where === 'number' && this.#bytesLeft === 0;
    if (atBytes || forwarded.length < chunk.length) this.#finish();
  }

  #bytesToForward(chunk: Buffer, commitAt: number | null): number {
    const where = this.#cut?.where;
    if (typeof where === 'number') return Math.min(this.#bytesLeft, chunk.length);
    return where === 'before commit' ? commitAt! : chunk.length;
  }

  #answered(chunk: Buffer): void {
    if (this.#cut === null) {
      this.#client.write(chunk);
      return;
    }
    if (typeof this.#cut.where === 'object') {
      this.#passOn(chunk, this.#cut.where.answerBytes);
      return;
    }
    this.#answers = Buffer.concat([this.#answers, chunk]);
    if (typeof this.#cut.where === 'string' && isCommitted(this.#answers)) this.#finish();
  }

  #passOn(chunk: Buffer, answerBytesMax: number): void {
    const passed = chunk.subarray(0, answerBytesMax - this.#answerBytes);
    this.#answerBytes += passed.length;
    this.#client.write(passed, () => {
      if (this.#answerBytes === answerBytesMax) this.#finish();
    });
  }

  #finish(): void {
    this.end();
    this.#cut?.done(this);
  }
}
