import { Registry } from 'prom-client';
import type { Logger } from 'pino';
import { Account } from '../account/account.ts';
import { budgetOf } from '../account/budget.ts';
import { openBroker, type OpenBroker } from '../broker/opening.ts';
import type { NameOf, Settings } from '../config/settings.ts';
import type { PluggableAssignor } from '../coordinator/assignors/pluggable.ts';
import { Ownership } from '../ownership/ownership.ts';
import { createRpcServers, type RpcServers } from '../rpc/servers.ts';
import { openStorage, type Storage } from '../storage/storage.ts';
import { AwakeClock } from '../time/awake-clock.ts';
import type { Clock, Random } from '../time/clock.ts';
import { createBatchCodec } from '../wire/batch-codec.ts';
import { loadAssignorModules } from './assignor-modules.ts';
import { untilDatabaseAnswers } from './database-retry.ts';
import { provideDatabase, type Database } from './database.ts';
import { greeting } from './greeting.ts';
import { HeapWatch, heapUse } from './heap-watch.ts';
import { exposeMetrics } from './metrics.ts';
import { BrokerNumbers } from './numbers.ts';
import { portError } from './port-error.ts';
import { readinessOf } from './readiness.ts';
import type { Readiness } from '../rpc/operations/readiness.ts';

/**
 * How long members may ack records in flight, and open calls may be answered, when the broker
 * stops.
 */
const drainMs = 3_000;
const closeMs = 2_000;

interface ServerOptions {
  readonly settings: Settings;
  /** For errors, which name a setting as it was given. */
  readonly nameOf: NameOf;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: Random;
  /** Writes to the terminal. */
  readonly say: (text: string) => void;
}

/** Why a server ended: a call of `stop`, or a failure. */
type Ending = { readonly reason: 'stopped' } | { readonly reason: 'failed'; readonly error: Error };

/**
 * One process of Millrace: its database, its ownership of that database, and both edges. It opens
 * HTTP at once, so that /readyz answers, stands by until it owns the database, and only then opens
 * gRPC.
 */
export class Server {
  /** Resolves when the server has ended, for any reason, and has released everything. */
  readonly ended: Promise<Ending>;
  readonly #o: ServerOptions;
  readonly #rpc: RpcServers;
  readonly #ending = Promise.withResolvers<Ending>();
  /**
   * Settles when the database is there. A stop waits for it, so that no embedded server keeps
   * running.
   */
  #providing: Promise<Database> | null = null;
  #database: Database | null = null;
  #storage: Storage | null = null;
  #ownership: Ownership | null = null;
  #open: OpenBroker | null = null;
  readonly #awake: AwakeClock;
  readonly #heap: HeapWatch;
  readonly #account: Account;
  #assignors: readonly PluggableAssignor[] = [];
  #ports = { grpc: 0, http: 0 };
  #notReady = 'starting: the database is not there yet';
  #startedMs = 0;
  /** Aborted when the end begins: no wait of the start goes on then. */
  readonly #halt = new AbortController();

  constructor(options: ServerOptions) {
    this.#o = options;
    this.ended = this.#ending.promise;
    const { settings, log, clock, random } = options;
    this.#awake = new AwakeClock(clock, (ms) => {
      log.warn({ ms: Math.round(ms) }, 'this process stood still; members get that time back');
    });
    const metrics = new Registry();
    this.#heap = new HeapWatch(log);
    this.#account = new Account(budgetOf(heapUse().maxBytes, settings.limits), () => this.#heap.mayGrow);
    exposeMetrics(
      metrics,
      () => this.#open?.counts() ?? null,
      () => (this.#open === null ? null : (this.#ownership?.epoch ?? null)),
      () => this.#heap.use,
      this.#account,
    );
    this.#rpc = createRpcServers({
      services: () => this.#open?.services ?? null,
      account: this.#account,
      limits: settings.limits,
      defaultRetentionMs: settings.defaultRetentionMs,
      corsOrigins: settings.corsOrigins,
      ready: () => this.#readiness(),
      metrics,
      numbers: new BrokerNumbers({
        open: () => this.#open,
        store: () => this.#storage?.numbers ?? null,
        freeBytes: (bytes) => this.#database?.freeBytes(bytes) ?? Promise.resolve(null),
        clock,
      }),
      log,
      clock: this.#awake,
      random,
    });
  }

  get #stopping(): boolean {
    return this.#halt.signal.aborted;
  }

  /** Starts; resolves when it serves or stands by. A failure ends the server (`ended`). */
  async start(): Promise<void> {
    const { settings, log, clock } = this.#o;
    this.#startedMs = clock.nowMs();
    this.#heap.start();
    try {
      this.#assignors = await loadAssignorModules(settings.assignorModules, this.#o.nameOf('assignor-modules'));
      if (this.#stopping) return;
      this.#ports.http = await this.#listen('http-port');
      if (this.#stopping) return;
      this.#providing = provideDatabase(settings, log, this.#halt.signal);
      this.#database = await this.#providing;
      if (this.#stopping) return;
      this.#storage = openStorage({
        address: this.#database.address,
        brokerId: settings.brokerId,
        appendSlots: settings.writeConnections,
        clock,
        log,
      });
      await this.#waitForDatabase(this.#storage);
      if (!this.#stopping) this.#standBy(this.#storage);
    } catch (error) {
      await this.#end({ reason: 'failed', error: error as Error });
    }
  }

  /**
   * Drains and ends: publishes are answered, members get Draining, cursors are durable. Idempotent.
   */
  async stop(): Promise<void> {
    await this.#end({ reason: 'stopped' });
  }

  async #listen(flag: 'grpc-port' | 'http-port'): Promise<number> {
    const { host, grpcPort, httpPort } = this.#o.settings;
    const [port, open] =
      flag === 'grpc-port' ? [grpcPort, this.#rpc.startGrpc] : ([httpPort, this.#rpc.startHttp] as const);
    try {
      return await open(host, port);
    } catch (error) {
      throw portError(this.#o.nameOf, flag, host, port, error);
    }
  }

  /**
   * Retries a database that does not answer yet, and rejects one that cannot be used.
   * @throws UnfitDatabase
   */
  async #waitForDatabase(storage: Storage): Promise<void> {
    await this.#retried(
      'waiting for the database',
      () => storage.check(this.#o.settings.allowUnsafeDatabase),
      () => true,
    );
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
        const what = this.#ownership?.epoch === null ? 'cannot own' : 'no longer owns';
        void this.#end({ reason: 'failed', error: new Error(`this broker ${what} the database: ${reason}`) });
      },
    });
    this.#ownership.start();
  }

  async #activate(storage: Storage, epoch: number): Promise<void> {
    const { settings, log, clock } = this.#o;
    this.#notReady = 'loading: the state is being loaded';
    this.#awake.start();
    try {
      storage.setEpoch(epoch);
      const open = await this.#load(storage);
      if (open === null || this.#stopping) {
        open?.stop();
        return;
      }
      this.#open = open;
      this.#ports.grpc = await this.#listen('grpc-port');
      this.#o.say(greeting(settings, this.#ports, this.#database?.shownUrl ?? null, clock.nowMs() - this.#startedMs));
      log.info({ epoch, ...this.#ports }, 'this broker owns the database and serves');
    } catch (error) {
      void this.#end({ reason: 'failed', error: error as Error });
    }
  }

  /**
   * Retries while the state cannot be loaded, as long as this broker owns the database.
   * @throws Error
   */
  #load(storage: Storage): Promise<OpenBroker | null> {
    return this.#retried(
      'loading',
      () => this.#openBroker(storage),
      () => this.#ownership?.state === 'ACTIVE',
    );
  }

  /** Repeats work that a fault of the database ends, while `mayGoOn`. A stop ends it with null. */
  #retried<T>(what: string, work: () => Promise<T>, mayGoOn: () => boolean): Promise<T | null> {
    const { log, clock } = this.#o;
    const onFault = (fault: Error): void => {
      if (!mayGoOn()) throw fault;
      this.#notReady = `${what}: ${fault.message}`;
    };
    return untilDatabaseAnswers({ what, clock, log, signal: this.#halt.signal, onFault }, work);
  }

  #openBroker(storage: Storage): Promise<OpenBroker> {
    const { settings, log, clock, random } = this.#o;
    return openBroker({
      stores: storage,
      writes: storage.writes,
      codec: createBatchCodec(),
      clock,
      awakeClock: this.#awake,
      random,
      account: this.#account,
      limits: settings.limits,
      assignors: this.#assignors,
      mayDeliver: () => this.#ownership?.mayDeliver() ?? false,
      onFenced: () => this.#ownership?.fenced(),
      log,
    });
  }

  #readiness(): Readiness {
    const writes = this.#storage?.writes;
    return readinessOf({
      isStopping: this.#stopping,
      isOpen: this.#open !== null && this.#ports.grpc !== 0,
      mayDeliver: this.#ownership?.mayDeliver() ?? false,
      standsBy: this.#ownership?.standsBy ?? false,
      activity: this.#notReady,
      failure: this.#ownership?.failure ?? null,
      refused: {
        diskFullSinceMs: writes?.kind === 'DISK_FULL' ? writes.sinceMs : null,
        isReadOnly: writes?.kind === 'DATABASE_READ_ONLY',
      },
    });
  }

  async #end(ending: Ending): Promise<void> {
    if (this.#stopping) {
      await this.ended;
      return;
    }
    this.#halt.abort();
    // Each step runs even if the one before failed, because an open resource would keep the process
    // alive.
    if (ending.reason === 'stopped') await this.#step('drain', () => this.#open?.drain(drainMs));
    else this.#open?.stop();
    await this.#step('close the ports', () => this.#rpc.stop(closeMs));
    await this.#step('give up the lease', () => this.#ownership?.stop());
    await this.#step('close the connections', () => this.#storage?.close());
    await this.#step('stop the database', () => this.#stopDatabase());
    await this.#heap.stop();
    await this.#awake.stop();
    this.#ending.resolve(ending);
  }

  async #stopDatabase(): Promise<void> {
    const database = await this.#providing?.catch(() => null);
    await database?.stop();
  }

  async #step(what: string, run: () => Promise<void> | undefined): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.#o.log.warn({ err: error }, `could not ${what} in good order`);
    }
  }
}
