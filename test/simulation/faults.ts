import { fussy } from './fussy-assignor.ts';
import type { Member } from './member.ts';
import { networkDelayMsMax } from './network.ts';
import type { SimulatedGroup, Simulation } from './simulation.ts';

const membersMax = 5;
/** A member with a longer one could be stuck for longer than everything may take in the end. */
const stuckMaxPollIntervalMsMax = 10_000;

/** What goes wrong, drawn from the seed: which kinds at all in this run, how often, and each time. */
export class Faults {
  readonly #simulation: Simulation;
  readonly #kinds: readonly (() => void)[];
  readonly #intervalMs: number;
  readonly #intruders: Member[] = [];
  #healed = false;

  constructor(simulation: Simulation) {
    this.#simulation = simulation;
    const { world } = simulation;
    // Some kinds only in each run: a run with everything hides what takes a while to go wrong.
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

  /** A settlement of the group begins: with some probability something goes wrong before its outcome is known. */
  strike(groupName: string): void {
    const { world, groups, operator } = this.#simulation;
    if (this.#healed || !world.chance(0.15)) return;
    const group = groups.find(({ site }) => site.group === groupName)!;
    // Slow for so long that a fold of the ack log may begin before the outcome is known.
    if (world.chance(0.3)) this.#slowDatabase(world.between(1_000, 6_000));
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

  /** Somebody outside of the groups does something with their offsets, whether or not that is a good moment. */
  #meddle(): void {
    const { world, groups, operator } = this.#simulation;
    const group = world.pick(groups);
    if (group === undefined) return;
    if (world.chance(0.3)) this.#abandon(group);
    else void (world.chance(0.4) ? operator.commit(group.site) : operator.reset(group.site));
  }

  /** Everything works again, and nothing fails any more. */
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
    for (const group of groups) {
      if (group.members.every(({ alive }) => !alive)) this.#simulation.startMember(group);
      this.#stick(group);
    }
    world.after(networkDelayMsMax, () => {
      for (const group of groups) for (const member of group.members) member.readAll();
    });
  }

  /** A member may never handle anything again and keep its membership alive: the others have to get what it has. */
  #stick(group: SimulatedGroup): void {
    const { world } = this.#simulation;
    const live = group.members.filter(({ alive }) => alive);
    const member = world.pick(live.filter(({ maxPollIntervalMs }) => maxPollIntervalMs < stuckMaxPollIntervalMsMax));
    if (member === undefined || !world.chance(0.5)) return;
    world.note('a member of the group is stuck');
    world.count('a member is stuck');
    member.stall(Infinity);
    // Of those with its instance at most one stays.
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

  /** The network between a broker and the database is gone for a while. */
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
    // Where who joins may be refused, so may be who changes: for ever.
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

  /** A process dies, and its instance is started again: before its session is over, or later. */
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

  /** An instance is started although it runs. */
  #doubleInstance(): void {
    const found = this.#instance();
    if (found !== undefined) this.#simulation.startMember(found.group, found.member.instanceId);
  }

  #intrude(): void {
    const { world, groups } = this.#simulation;
    const group = world.pick(groups.filter(({ site }) => site.clientSide));
    if (group === undefined) return;
    const intruder = this.#simulation.startIntruder(group);
    this.#intruders.push(intruder);
    world.after(world.between(500, 4_000), () => {
      intruder.crash();
    });
  }

  /** Everybody leaves or is gone; for a while the group is nobody's, and somebody outside may change its offsets. */
  #abandon(group: SimulatedGroup): void {
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
    world.after(world.between(1_000, 12_000), () => {
      if (group.members.every(({ alive }) => !alive)) this.#simulation.startMember(group);
    });
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
