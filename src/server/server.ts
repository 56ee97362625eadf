import { Registry } from 'prom-client';
import type { Logger } from 'pino';
import { openBroker, type OpenBroker } from '../broker/open-broker.ts';
import type { Settings } from '../config/settings.ts';
import { Ownership } from '../ownership/ownership.ts';
import { createRpcServers, type RpcServers } from '../rpc/servers.ts';
import { openStorage, type Storage } from '../storage/storage.ts';
import type { Clock, Random } from '../time/clock.ts';
import { createBatchCodec } from '../wire/batch-codec.ts';
import { provideDatabase, type Database } from './database.ts';
import { greeting } from './greeting.ts';
import { exposeMetrics } from './metrics.ts';

/** How long members have to ack what is in flight when the broker stops, and open calls to be answered. */
const drainMs = 3_000;
const closeMs = 2_000;

export interface ServerOptions {
  readonly settings: Settings;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: Random;
  /** Writes to the person at the terminal. */
  readonly say: (text: string) => void;
}

/** How a server ended: by a call of `stop`, or because it could not go on. */
export type Ending = { readonly reason: 'stopped' } | { readonly reason: 'failed'; readonly error: Error };

/**
 * One process of Millrace: its database, its place among the brokers of that database, and both edges. It opens HTTP at once, so that
 * it can be asked how it is, stands by until it owns the database, and only then opens gRPC.
 */
export class Server {
  /** Resolves when the server has ended, for whatever reason, and has given everything back. */
  readonly ended: Promise<Ending>;
  readonly #o: ServerOptions;
  readonly #rpc: RpcServers;
  readonly #ending = Promise.withResolvers<Ending>();
  #database: Database | null = null;
  #storage: Storage | null = null;
  #ownership: Ownership | null = null;
  #open: OpenBroker | null = null;
  #ports = { grpc: 0, http: 0 };
  #notReady = 'starting: the database is not there yet';
  #startedMs = 0;
  #stopping = false;

  constructor(options: ServerOptions) {
    this.#o = options;
    this.ended = this.#ending.promise;
    const { settings, log, clock, random } = options;
    const metrics = new Registry();
    exposeMetrics(
      metrics,
      () => this.#open?.counts() ?? null,
      () => (this.#open === null ? null : (this.#ownership?.epoch ?? null)),
    );
    this.#rpc = createRpcServers({
      broker: () => this.#open?.broker ?? null,
      limits: settings.limits,
      ready: () => this.#readiness(),
      metrics,
      log,
      clock,
      random,
    });
  }

  /** Starts; resolves when it serves or stands by. A failure ends the server (`ended`). */
  async start(): Promise<void> {
    const { settings, log, clock } = this.#o;
    this.#startedMs = clock.nowMs();
    try {
      this.#ports.http = await this.#rpc.startHttp(settings.host, settings.httpPort);
      this.#database = await provideDatabase(settings, log);
      this.#storage = openStorage({
        connectionString: this.#database.brokerUrl,
        brokerId: settings.brokerId,
        appendSlots: settings.writeConnections,
        clock,
        log,
      });
      await this.#storage.check(settings.allowUnsafeDatabase);
      this.#standBy(this.#storage);
    } catch (error) {
      await this.#end({ reason: 'failed', error: error as Error });
    }
  }

  /** Drains and ends: publishes are answered, members told, cursors durable. Idempotent. */
  async stop(): Promise<void> {
    await this.#end({ reason: 'stopped' });
  }

  #standBy(storage: Storage): void {
    const { log, clock, random } = this.#o;
    this.#notReady = 'standing by: another broker owns the database';
    this.#ownership = new Ownership({
      store: storage.lease,
      clock,
      random,
      log,
      prepare: () => storage.migrate(),
      onActive: (epoch) => this.#activate(storage, epoch),
      onLost: (reason) => {
        void this.#end({ reason: 'failed', error: new Error(`this broker no longer owns the database: ${reason}`) });
      },
    });
    this.#ownership.start();
  }

  async #activate(storage: Storage, epoch: number): Promise<void> {
    const { settings, log, clock, random } = this.#o;
    this.#notReady = 'starting: the state is being loaded';
    try {
      storage.setEpoch(epoch);
      const open = await openBroker({
        stores: { log: storage.log, topics: storage.topics, groups: storage.groups },
        codec: createBatchCodec(),
        clock,
        random,
        limits: settings.limits,
        mayDeliver: () => this.#ownership?.mayDeliver() ?? false,
        onFenced: () => this.#ownership?.fenced(),
        log,
      });
      if (this.#stopping) {
        open.stop();
        return;
      }
      this.#open = open;
      this.#ports.grpc = await this.#rpc.startGrpc(settings.host, settings.grpcPort);
      this.#o.say(greeting(settings, this.#ports, this.#database?.shownUrl ?? null, clock.nowMs() - this.#startedMs));
      log.info({ epoch, ...this.#ports }, 'this broker owns the database and serves');
    } catch (error) {
      void this.#end({ reason: 'failed', error: error as Error });
    }
  }

  #readiness(): { ok: boolean; reason: string } {
    if (this.#stopping) return { ok: false, reason: 'stopping' };
    if (this.#open === null || this.#ports.grpc === 0) return { ok: false, reason: this.#notReady };
    if (!(this.#ownership?.mayDeliver() ?? false)) return { ok: false, reason: 'the database does not answer' };
    return { ok: true, reason: '' };
  }

  async #end(ending: Ending): Promise<void> {
    if (this.#stopping) {
      await this.ended;
      return;
    }
    this.#stopping = true;
    // Each step is taken whatever became of the one before: what is left open would keep the process, or the database's.
    if (ending.reason === 'stopped') await this.#step('drain', () => this.#open?.drain(drainMs));
    else this.#open?.stop();
    await this.#step('close the ports', () => this.#rpc.stop(closeMs));
    await this.#step('give up the lease', () => this.#ownership?.stop());
    await this.#step('close the connections', () => this.#storage?.close());
    await this.#step('stop the database', () => this.#database?.stop());
    this.#ending.resolve(ending);
  }

  async #step(what: string, run: () => Promise<void> | undefined): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.#o.log.warn({ err: error }, `could not ${what} in good order`);
    }
  }
}
