import { fussy } from './brokers/fussy-assignor.ts';
import type { Member } from './clients/member.ts';
import { networkDelayMsMax } from './network.ts';
import { PullMember } from './clients/pull-member.ts';
import type { SimulatedGroup, Simulation } from './simulation.ts';
import { ReconnectingMember, StuckReader } from './clients/stream-member.ts';

const membersMax = 5;
/** A longer interval could keep a stuck member for longer than the run waits for convergence. */
const stuckMaxPollIntervalMsMax = 10_000;

/**
 * Draws the faults of a run from its seed: their kinds, how often they occur, and each occurrence.
 */
export class Faults {
  readonly #simulation: Simulation;
  readonly #kinds: readonly (() => void)[];
  readonly #intervalMs: number;
  readonly #intruders: Member[] = [];
  #healed = false;

  constructor(simulation: Simulation) {
    this.#simulation = simulation;
    const { world } = simulation;
    // Each run has only some kinds, because a run with all of them hides faults that take long to
    // show.
    this.#kinds = [
      () => this.#broker()?.kill(),
      () => void this.#broker()?.stop(),
      () => {
        this.#freeze();
      },
      () => this.#broker()?.cutDatabase(),
      () => this.#broker()?.cutDatabase(0.3),
      () => {
        this.#separate();
      },
      () => {
        this.#databaseDown();
      },
      () => {
        this.#slowDatabase(world.between(100, 3_000));
      },
      () => this.#broker()?.process.jump(world.pick([5_000, 3_600_000, 86_400_000])! * world.between(-1, 1)),
      () => {
        simulation.network.breakStreams(0.3);
      },
      () => {
        this.#join();
      },
      () => {
        this.#leave();
      },
      () => {
        this.#crashMember();
      },
      () => {
        this.#slowMember();
      },
      () => this.#member()?.stall(world.between(1_000, 10_000)),
      () => {
        this.#restartInstance();
      },
      () => {
        this.#doubleInstance();
      },
      () => {
        this.#changeTopics();
      },
      () => void simulation.growTopic(world.pick(simulation.database.log.rows())!.name),
      () => {
        this.#intrude();
      },
      () => {
        this.#disturb(StuckReader);
      },
      () => {
        this.#disturb(ReconnectingMember);
      },
      () => {
        this.#pause();
      },
      () => {
        this.#die();
      },
      () => {
        this.#cancel();
      },
    ].filter(() => world.chance(0.6));
    simulation.database.breakRate = world.pick([0, 0.001, 0.01, 0.05])!;
    this.#intervalMs = world.between(300, 4_000);
  }

  start(): void {
    const { world } = this.#simulation;
    this.#repeat(this.#intervalMs, () => world.pick(this.#kinds)?.());
    if (world.chance(0.6)) {
      this.#repeat(world.between(1_000, 8_000), () => {
        this.#meddle();
      });
    }
  }

  /**
   * Called when a settlement of the group begins. May cause a fault before its outcome is known.
   */
  strike(groupName: string): void {
    const { world, groups, operator } = this.#simulation;
    if (this.#healed) return;
    // The database is slow for long enough that a fold may begin before the outcome is known.
    if (world.chance(0.3)) this.#slowDatabase(world.between(1_000, 6_000));
    if (!world.chance(0.15)) return;
    const group = groups.find(({ site }) => site.group === groupName)!;
    world.after(world.between(0, 8), () => {
      if (this.#healed) return;
      if (world.chance(0.3)) void operator.reset(group.site);
      else world.pick(this.#kinds)?.();
    });
  }

  #repeat(intervalMs: number, work: () => void): void {
    const { world } = this.#simulation;
    world.after(2 * intervalMs * world.fraction(), () => {
      if (this.#healed) return;
      work();
      this.#repeat(intervalMs, work);
    });
  }

  /** Lets the operator change offsets of a group at any moment, even at a bad one. */
  #meddle(): void {
    const { world, groups, operator } = this.#simulation;
    const group = world.pick(groups);
    if (group === undefined) return;
    if (world.chance(0.3)) this.#abandon(group);
    else void (world.chance(0.4) ? operator.commit(group.site) : operator.reset(group.site));
  }

  /** Repairs everything and stops all faults. */
  heal(): void {
    const { network, brokers, database, groups, world } = this.#simulation;
    world.note('all is healed');
    this.#healed = true;
    this.#simulation.troubled = false;
    network.faulty = false;
    database.slow = false;
    database.breakRate = 0;
    database.comeUp();
    for (const broker of brokers) {
      broker.link.up = true;
      if (broker.process.frozen) broker.thaw();
    }
    for (const intruder of this.#intruders) intruder.crash();
    for (const claimant of this.#simulation.claimants) claimant.heal();
    for (const group of groups) {
      if (world.chance(0.15)) this.#simulation.letDie(group);
      else {
        if (group.members.every(({ alive }) => !alive)) this.#simulation.startMember(group);
        this.#stick(group);
      }
    }
    world.after(networkDelayMsMax, () => {
      for (const group of groups) for (const member of group.members) member.readAll();
    });
  }

  /**
   * May let a member hang for ever with a live membership, so that the others must get its
   * partitions.
   */
  #stick(group: SimulatedGroup): void {
    const { world } = this.#simulation;
    const live = group.members.filter(({ alive }) => alive);
    const member = world.pick(live.filter(({ maxPollIntervalMs }) => maxPollIntervalMs < stuckMaxPollIntervalMsMax));
    if (member === undefined || !world.chance(0.5)) return;
    world.note('a member of the group is stuck');
    world.count('a member is stuck');
    member.stall(Infinity);
    // Of the members with the same instance at most one stays.
    const others = live.filter(
      (one) => one !== member && (one.instanceId === null || one.instanceId !== member.instanceId),
    );
    if (others.length === 0) this.#simulation.startMember(group);
  }

  #broker() {
    return this.#simulation.world.pick(this.#simulation.brokers);
  }

  #freeze(): void {
    const { world } = this.#simulation;
    const broker = this.#broker();
    if (broker === undefined || broker.process.frozen) return;
    broker.freeze();
    world.after(world.chance(0.5) ? world.between(10, 2_000) : world.between(2_000, 15_000), () => {
      if (broker.process.frozen) broker.thaw();
    });
  }

  /** Cuts the network between a broker and the database for a while. */
  #separate(): void {
    const { world } = this.#simulation;
    const broker = this.#broker();
    if (broker === undefined) return;
    broker.link.up = false;
    broker.cutDatabase();
    world.after(world.between(100, 10_000), () => {
      broker.link.up = true;
    });
  }

  #databaseDown(): void {
    const { world, database } = this.#simulation;
    if (!database.isUp) return;
    world.note('the database goes down');
    database.goDown();
    world.after(world.between(50, 3_000), () => {
      world.note('the database is up');
      database.comeUp();
    });
  }

  #slowDatabase(forMs: number): void {
    const { world, database } = this.#simulation;
    database.slow = true;
    world.after(forMs, () => {
      database.slow = false;
    });
  }

  #join(): void {
    const group = this.#simulation.world.pick(this.#simulation.groups);
    if (group === undefined || group.members.filter(({ alive }) => alive).length >= membersMax) return;
    this.#simulation.startMember(group);
  }

  #member() {
    const { world, groups } = this.#simulation;
    return world.pick(groups.flatMap(({ members }) => members.filter(({ alive }) => alive)));
  }

  #changeTopics(): void {
    const { world, groups } = this.#simulation;
    // An assignor that may reject a join may also reject each change, for ever.
    const among = groups.filter(({ site }) => site.topics.length > 1 && !site.assignors.includes(fussy.name));
    const group = world.pick(among);
    const member = world.pick(group?.members.filter(({ alive }) => alive) ?? []);
    member?.read(world.chance(0.5) ? group!.site.topics : [world.pick(group!.site.topics)!]);
  }

  #instance() {
    const { world, groups } = this.#simulation;
    const all = groups.flatMap((group) => group.members.map((member) => ({ group, member })));
    return world.pick(all.filter(({ member }) => member.alive && member.instanceId !== null));
  }

  /** Kills a process and restarts its instance, before or after its session has expired. */
  #restartInstance(): void {
    const { world } = this.#simulation;
    const found = this.#instance();
    if (found === undefined) return;
    const { group, member } = found;
    member.crash();
    world.after(world.chance(0.5) ? world.between(10, 3_000) : world.between(3_000, 20_000), () => {
      if (group.members.some(({ alive, instanceId }) => alive && instanceId === member.instanceId)) return;
      this.#simulation.startMember(group, member.instanceId);
    });
  }

  /** Starts a second process of an instance that is running. */
  #doubleInstance(): void {
    const found = this.#instance();
    if (found !== undefined) this.#simulation.startMember(found.group, found.member.instanceId);
  }

  /**
   * Starts a member that does not fit into a group whose members assign the partitions themselves.
   */
  #intrude(): void {
    const { world, groups } = this.#simulation;
    const group = world.pick(groups.filter(({ site }) => site.clientSide));
    if (group === undefined) return;
    this.#intrudeFor(world.between(500, 4_000), this.#simulation.startIntruder(group, PullMember));
  }

  #intrudeFor(forMs: number, intruder: Member): void {
    this.#intruders.push(intruder);
    this.#simulation.world.after(forMs, () => {
      intruder.crash();
    });
  }

  /** Starts a member that misbehaves with its streams, one of its kind in a group. */
  #disturb(Kind: typeof StuckReader | typeof ReconnectingMember): void {
    const { world, groups } = this.#simulation;
    const group = world.pick(groups.filter(({ site }) => !site.clientSide));
    const live = group?.members.filter(({ alive }) => alive) ?? [];
    if (group === undefined || live.length >= membersMax || live.some((member) => member instanceof Kind)) return;
    this.#intrudeFor(world.between(15_000, 40_000), this.#simulation.startIntruder(group, Kind));
  }

  /** Ends all members of a group. While it is empty, the operator may change its offsets. */
  #abandon(group: SimulatedGroup, forMs = this.#simulation.world.between(1_000, 12_000)): void {
    const { world, operator } = this.#simulation;
    for (const member of group.members.filter(({ alive }) => alive)) {
      if (world.chance(0.8)) void member.leave();
      else member.crash();
    }
    for (let times = world.whole(0, 2); times > 0; times--) {
      world.after(world.between(0, 10_000), () => {
        void (world.chance(0.6) ? operator.commit(group.site) : operator.reset(group.site));
      });
    }
    world.after(forMs, () => {
      if (group.members.every(({ alive }) => !alive)) this.#simulation.startMember(group);
    });
  }

  /** Pauses a subscription for a while. The last resume comes when all is healed. */
  #pause(): void {
    const { world, groups, lives } = this.#simulation;
    const group = world.pick(groups);
    if (group === undefined) return;
    void lives.pause(group.site.group, group.site.topics);
    world.after(world.between(500, 8_000), () => {
      void lives.resume(group.site.group, group.site.topics);
    });
  }

  /** Ends all members of a group for longer than its subscriptions live. */
  #die(): void {
    const { world, groups, lives } = this.#simulation;
    const group = world.pick(groups);
    if (group === undefined) return;
    void lives.hasten(group.site.group, group.site.topics);
    this.#abandon(group, world.between(1_000, 25_000));
  }

  #cancel(): void {
    const { world, groups, lives } = this.#simulation;
    const group = world.pick(groups);
    // A cancel ends what the runs are for.
    if (group !== undefined && world.chance(0.3)) void lives.cancel(group.site.group, group.site.topics);
  }

  #leave(): void {
    void this.#member()?.leave();
  }

  #crashMember(): void {
    this.#member()?.crash();
  }

  #slowMember(): void {
    const member = this.#member();
    const { world } = this.#simulation;
    member?.beSlow(true);
    world.after(world.between(1_000, 10_000), () => member?.beSlow(false));
  }
}
