import type { AckCommand, AckOutcome } from '../../src/broker/commands.ts';
import type { Services } from '../../src/broker/services.ts';
import type { GroupState } from '../../src/coordinator/group.ts';
import { Fault } from '../../src/errors/fault.ts';
import { Rejection } from '../../src/errors/rejections/rejection.ts';
import type { RetentionSettings } from '../../src/retention/settings.ts';
import { SimulatedBroker } from './brokers/broker.ts';
import { archiveTopic } from './clients/archive.ts';
import { Claimant } from './clients/claimant.ts';
import { ClassicMember } from './clients/classic-member.ts';
import type { SettleCommand, SettleOutcome } from '../../src/delivery/ports/settle.ts';
import { Database } from './database/database.ts';
import { Faults } from './faults.ts';
import { fussy } from './brokers/fussy-assignor.ts';
import { Ledger } from './ledgers/ledger.ts';
import type { Answer, Member, MemberSite } from './clients/member.ts';
import { Network } from './network.ts';
import { hastenedMsMax, LifeOperator } from './clients/life-operator.ts';
import { Operator } from './clients/operator.ts';
import { PullMember } from './clients/pull-member.ts';
import { Publisher } from './clients/publisher.ts';
import type { Sabotage } from './sabotage.ts';
import { StreamMember } from './clients/stream-member.ts';
import { Violation, World } from './world.ts';

export interface SimulationOptions {
  readonly seed: number;
  readonly sabotage?: Sabotage;
}

export interface SimulatedGroup {
  readonly site: MemberSite;
  readonly members: Member[];
}

/**
 * How long a healed system may take to converge, because old sessions and leases must expire first.
 */
const convergenceMsMax = 180_000;
/** How long it may take until segments that nobody needs are gone: folds, looks, retention. */
const cleaningMsMax = 180_000;
const traceLines = 60;
const partitionsMax = 6;

/**
 * One run: brokers on one database, publishers, groups of members, and faults between all of them.
 * Then the faults stop, and every record must reach every group in bounded time.
 */
export class Simulation {
  readonly seed: number;
  readonly world: World;
  readonly database: Database;
  readonly ledger: Ledger;
  readonly network: Network;
  readonly brokers: SimulatedBroker[] = [];
  readonly groups: SimulatedGroup[] = [];
  readonly operator: Operator;
  readonly claimants: Claimant[] = [];
  readonly lives: LifeOperator;
  troubled = true;
  /** Whether members archive records through settlements. */
  readonly archives: boolean;
  /** Null until publishers and groups exist. */
  #faults: Faults | null = null;
  readonly #sabotage: Sabotage;
  readonly #publishers: Publisher[] = [];
  /**
   * Groups whose subscriptions have to die before they get a member again, some not before all is
   * dropped that nobody but them is owed.
   */
  readonly #dying = new Map<SimulatedGroup, boolean>();
  /** A segment that had to go at the last look. */
  #kept: string | null = null;
  #keptAtMs = -Infinity;
  /** The state of each group, from the owner. */
  readonly #states = new Map<string, GroupState>();

  constructor({ seed, sabotage = null }: SimulationOptions) {
    this.seed = seed;
    this.#sabotage = sabotage;
    this.world = new World(seed);
    this.database = new Database(this.world);
    // Rolls are frequent, and what is behind needs many reads.
    this.database.log.fullRate = 0.3;
    this.database.log.readBytesMax = 4_096;
    this.ledger = new Ledger(this.world, this.database);
    this.network = new Network(this.world, this.ledger, () => this.brokers);
    this.operator = new Operator(this.world, this.network, this.ledger);
    this.lives = new LifeOperator(this.world, this.network, this.ledger);
    this.archives = this.world.chance(0.5);
  }

  /** @throws Violation with the seed, the command that repeats the run, and the last events */
  async run(): Promise<void> {
    const crashed = (error: unknown): void => {
      this.world.violated(error instanceof Error ? error : new Error(String(error)));
    };
    process.on('unhandledRejection', crashed);
    try {
      await this.#run();
    } catch (error) {
      throw this.#report(error as Error);
    } finally {
      process.off('unhandledRejection', crashed);
    }
  }

  startBroker(name: string): void {
    const broker = new SimulatedBroker(
      { world: this.world, database: this.database, ledger: this.ledger, sabotage: this.#sabotage },
      name,
    );
    this.brokers.push(broker);
    // A supervisor restarts the broker.
    broker.atEnd(() => {
      this.brokers.splice(this.brokers.indexOf(broker), 1);
      this.world.after(this.world.between(100, 2_000), () => {
        this.startBroker(name);
      });
    });
  }

  startMember(group: SimulatedGroup, instanceId = this.#newInstance(group)): Member {
    const member = this.#newMember(group.site, instanceId);
    group.members.push(member);
    member.start();
    return member;
  }

  /** Starts a member that disturbs its group. */
  startIntruder(group: SimulatedGroup, Kind: new (site: MemberSite, instanceId: null) => Member): Member {
    const member = new Kind(group.site, null);
    group.members.push(member);
    member.start();
    return member;
  }

  /** Ends the members of a group until its subscriptions are DEAD, if it has members. */
  letDie(group: SimulatedGroup): void {
    const row = this.ledger.groups.row(group.site.group);
    if (row === undefined || row.members.size === 0) {
      this.startMember(group);
      return;
    }
    this.#dying.set(group, this.world.chance(0.7));
    // At once, so that it is owed what the publishers still have.
    endMembers(group);
  }

  /** Adds one or two partitions to the topic, up to the maximum. */
  async growTopic(name: string): Promise<void> {
    const { world, network } = this;
    const has = this.database.log.rows().find((row) => row.name === name)?.partitions.length ?? 0;
    const partitions = Math.min(partitionsMax, has + world.whole(1, 2));
    while (partitions > has) {
      try {
        await network.call((broker) => broker.topic.addPartitions({ name, partitions }));
        world.count('a topic grows');
        return;
      } catch (error) {
        if (error instanceof Rejection && error.reason === 'PARTITIONS_CANNOT_SHRINK') return;
        await world.pause(100);
      }
    }
  }

  #newInstance({ site, members }: SimulatedGroup): string | null {
    return this.world.chance(0.4) ? `${site.group}-instance-${members.length}` : null;
  }

  #newMember(site: MemberSite, instanceId: string | null): Member {
    const kind = site.clientSide ? 1 : this.world.fraction();
    if (kind < 0.3) return new PullMember(site, instanceId);
    return kind < 0.75 ? new StreamMember(site, instanceId) : new ClassicMember(site, instanceId);
  }

  /** Restarts a process that a late call of its own has fenced, as a supervisor would. */
  #restartFenced(group: SimulatedGroup, { instanceId }: Member): void {
    this.world.after(this.world.between(500, 3_000), () => {
      if (group.members.some((member) => member.alive && member.instanceId === instanceId)) return;
      this.world.count('a process is started again that its own late call has fenced');
      this.startMember(group, instanceId);
    });
  }

  async #run(): Promise<void> {
    const { world } = this;
    const topics = Array.from({ length: world.whole(1, 2) }, (_, topic) => `topic-${topic}`);
    for (let broker = 0; broker < world.whole(2, 3); broker++) this.startBroker(`broker-${broker}`);
    const all = this.archives ? [...topics, archiveTopic] : topics;
    for (const topic of all) void this.#createTopic(topic);
    await world.run(10_000, () => this.database.log.rows().length === all.length);
    const troubleMs = world.between(15_000, 40_000);
    this.#populate(topics, troubleMs);
    const faults = new Faults(this);
    this.#faults = faults;
    faults.start();
    await world.run(troubleMs);
    faults.heal();
    await this.#converge();
    await this.#clean();
    this.ledger.confirmedAll();
    await world.run(1);
  }

  #populate(topics: readonly string[], forMs: number): void {
    const { world } = this;
    for (let publisher = 0; publisher < world.whole(1, 3); publisher++) {
      const publishing = new Publisher(world, this.network, this.ledger, `p${publisher}`, world.pick(topics)!);
      this.#publishers.push(publishing);
      void publishing.run(world.whole(10, 40), forMs);
    }
    for (let group = 0; group < world.whole(1, 3); group++) {
      this.#addGroup(`group-${group}`, group === 0 ? topics : [world.pick(topics)!], forMs);
    }
    for (let claimant = 0; claimant < world.whole(0, 2); claimant++) {
      const claiming = new Claimant(world, this.network, this.ledger, `${claimant}`, world.pick(topics)!);
      this.claimants.push(claiming);
      void claiming.run();
    }
    if (this.archives && world.chance(0.3)) this.#addGroup('group-archive', [archiveTopic], forMs);
  }

  #addGroup(name: string, topics: readonly string[], forMs: number): void {
    const { world } = this;
    const started: SimulatedGroup = {
      site: this.#site(name, topics, (member) => {
        this.#restartFenced(started, member);
      }),
      members: [],
    };
    const sizeMin = world.whole(1, 3);
    // Some groups exist before the first record, and others begin later.
    world.after(world.chance(0.5) ? 0 : world.between(0, forMs / 2), () => {
      this.groups.push(started);
      for (let member = 0; member < sizeMin; member++) this.startMember(started);
    });
  }

  #site(group: string, topics: readonly string[], fenced: MemberSite['fenced']): MemberSite {
    const { world, network, ledger } = this;
    const assignors = ['sticky', 'range', 'round_robin', 'cooperative_sticky'];
    return {
      start: { type: world.chance(0.8) ? 'earliest' : 'latest' },
      world,
      network,
      ledger,
      group,
      topics,
      clientSide: world.chance(0.25),
      assignors: world.chance(0.2) ? ['sticky', fussy.name] : assignors,
      fenced,
      ack: (broker, serving, command) => this.#ack(broker, serving, command),
      commit: (broker, serving, command) => this.#commit(broker, serving, command),
      settle:
        this.archives && !topics.includes(archiveTopic) ? (serving, command) => this.#settle(serving, command) : null,
      troubled: () => this.troubled,
    };
  }

  /** Most topics let their records go within seconds. */
  #retention(): RetentionSettings {
    const { world } = this;
    return {
      afterCompletionMs: world.chance(0.25) ? null : world.between(500, 10_000),
      excusedKeepMs: world.between(500, 20_000),
      maxAgeMs: world.chance(0.2) ? world.between(1_000, 15_000) : null,
      maxBytes: world.chance(0.1) ? world.whole(200, 4_000) : null,
      keepUnsubscribedMs: world.between(500, 20_000),
    };
  }

  async #createTopic(name: string): Promise<void> {
    const partitions = this.world.whole(1, 4);
    const retention = this.#retention();
    const command = { name, partitions, idempotencyWindowMs: 600_000, description: '', retention };
    for (;;) {
      try {
        await this.network.call((broker) => broker.topic.createTopic(command));
        return;
      } catch (error) {
        if (error instanceof Rejection && error.reason === 'TOPIC_EXISTS') return;
        await this.world.pause(100);
      }
    }
  }

  async #ack(broker: Services, serving: SimulatedBroker, command: AckCommand): Promise<AckOutcome[]> {
    const arrival = this.ledger.ackArrived(serving.epoch, command);
    const outcomes = await broker.broker.ack(command);
    if (!serving.ended) this.ledger.ackAnswered(command, arrival, outcomes);
    return outcomes;
  }

  /** Sends a cumulative ack as a commit of the next offset. */
  async #commit(broker: Services, serving: SimulatedBroker, command: AckCommand): Promise<readonly Answer[]> {
    const { group, memberId, generation, entries } = command;
    const arrival = this.ledger.ackArrived(serving.epoch, command);
    const offsets = entries.map(({ topic, partition, lane, upToOffset }) => {
      return { topic, partition, lane, offset: upToOffset! + 1, metadata: '' };
    });
    const committed = await broker.group.commitOffsets({ group, member: { memberId, generation }, offsets });
    const outcomes = committed.map(({ status, committedOffset }, index) => {
      if (status === 'UNKNOWN_PARTITION') {
        // A cancel may come first.
        const isCancelled = this.ledger.hasBegunAnew(group, entries[index]!, arrival.resets[index]!);
        if (!isCancelled) throw new Violation(`${group} does not know what it has delivered`);
        return { status: 'STALE_GENERATION' as const, committedOffset };
      }
      return { status: status === 'NOT_ADVANCED' ? ('ALREADY_ACKED' as const) : status, committedOffset };
    });
    if (!serving.ended) this.ledger.ackAnswered(command, arrival, outcomes, 'COMMIT');
    return outcomes;
  }

  /** Sends a settlement, during which a fault may occur. */
  async #settle(serving: SimulatedBroker, command: SettleCommand): Promise<SettleOutcome> {
    const settling = this.ledger.settleArrived(serving.epoch, command);
    this.#faults?.strike(command.group);
    try {
      const outcome = await serving.settle(command);
      if (!serving.ended) this.ledger.settleAnswered(settling, outcome);
      return outcome;
    } catch (error) {
      if (!serving.ended && (error instanceof Rejection || error instanceof Fault)) {
        this.ledger.settleAnswered(settling, error);
      }
      throw error;
    }
  }

  async #converge(): Promise<void> {
    const { world } = this;
    let missing: string | null = 'nothing was looked at';
    let lookedMs = 0;
    const done = await world.run(convergenceMsMax, () => {
      if (world.nowMs - lookedMs < 250) return false;
      lookedMs = world.nowMs;
      void this.#lookAtGroups();
      missing = this.#missing();
      return missing === null;
    });
    if (!done) throw new Violation(`${convergenceMsMax} ms after the last fault ${missing}`);
  }

  /** What nobody needs goes, also while nothing else happens. */
  async #clean(): Promise<void> {
    let left: string | null = null;
    const done = await this.world.run(cleaningMsMax, () => (left = this.#overdue()) === null);
    if (!done) throw new Violation(`${cleaningMsMax} ms after the last record was done ${left}`);
  }

  #missing(): string | null {
    if (this.#publishers.some(({ done }) => !done)) return 'a publisher is not done';
    return this.#unlived() ?? this.ledger.missing() ?? this.#unsettled();
  }

  /** What keeps subscriptions from being ACTIVE; null if all are. */
  #unlived(): string | null {
    const { groups, log } = this.database;
    for (const { groupId, topicId, state } of groups.subscriptions.live()) {
      if (state !== 'PAUSED') continue;
      const { name } = groups.groups.find(({ id }) => id === groupId)!;
      const topic = log.topics.get(topicId)!.row.name;
      void this.lives.resume(name, [topic]);
      return `${name}:${topic} is PAUSED`;
    }
    for (const [group, untilDropped] of this.#dying) {
      const { group: name, topics } = group.site;
      const { id } = this.ledger.groups.row(name)!;
      const left = groups.subscriptions.live().find((row) => row.groupId === id && row.state !== 'DEAD');
      if (left !== undefined) {
        // A supervisor may have started another one.
        endMembers(group);
        if ((left.deadAfterMs ?? Infinity) > hastenedMsMax) void this.lives.hasten(name, topics);
        return `${name} has no member, and its subscription ${left.id} is ${left.state}`;
      }
      const kept = untilDropped ? this.#overdue() : null;
      if (kept !== null) return `${name} is dead, and ${kept}`;
      this.world.count('a group whose subscriptions are dead gets a member');
      // The next owner finds them dead.
      if (this.world.chance(0.5)) this.brokers.find(({ epoch }) => epoch === this.database.epoch)?.kill();
      this.#dying.delete(group);
      this.startMember(group);
    }
    return null;
  }

  /** A segment that has to go; null if none has to. A look takes a while, so it is one a second. */
  #overdue(): string | null {
    const { world, ledger } = this;
    if (this.#kept === null || world.nowMs - this.#keptAtMs >= 1_000) {
      this.#keptAtMs = world.nowMs;
      this.#kept = ledger.retention.overdue();
    }
    return this.#kept;
  }

  /** What keeps a group from rest; null if all groups are at rest. */
  #unsettled(): string | null {
    for (const { site, members } of this.groups) {
      const live = members.filter(({ alive }) => alive);
      const missing = this.ledger.groups.missing(site.group, live, site.assignors.includes(fussy.name));
      if (missing !== null) return missing;
      const state = this.#states.get(site.group);
      if (state !== 'STABLE') return `${site.group} is ${state ?? 'not known'}`;
    }
    return null;
  }

  /** Reads the states of the groups from the owner. */
  async #lookAtGroups(): Promise<void> {
    const owner = this.brokers.find(({ epoch, calls }) => calls !== null && epoch === this.database.epoch);
    try {
      const listed = await owner?.calls?.group.listGroups({ states: [], topic: null }, { size: 100, token: '' });
      for (const { name, state } of listed?.items ?? []) this.#states.set(name, state);
    } catch (error) {
      // An attempt to load the groups, begun before the database was healed, has failed, or its
      // broker is shutting down.
      if (!(error instanceof Fault || error instanceof Rejection)) throw error;
    }
  }

  #report(error: Error): Error {
    const { trace } = this.world;
    const what = error instanceof Violation ? error.message : (error.stack ?? error.message);
    const again = `SIMULATION_SEED=${this.seed} npm test -- test/simulation`;
    const last = trace.slice(-traceLines).join('\n');
    return new Violation(`seed ${this.seed}: ${what}\n\nto run it again: ${again}\n\nwhat happened last:\n${last}`);
  }
}

/** Lets the live members of a group leave. */
function endMembers({ members }: SimulatedGroup): void {
  for (const member of members.filter(({ alive }) => alive)) void member.leave();
}
