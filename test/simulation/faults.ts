import type { Simulation } from './simulation.ts';

const membersMax = 5;

/** What goes wrong, drawn from the seed: which kinds at all in this run, how often, and each time. */
export class Faults {
  readonly #simulation: Simulation;
  readonly #kinds: readonly (() => void)[];
  readonly #intervalMs: number;
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
        this.#slowDatabase();
      },
      () => this.#broker()?.process.jump(world.between(-3_600_000, 3_600_000)),
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
    ].filter(() => world.chance(0.6));
    simulation.database.breakRate = world.pick([0, 0.001, 0.01, 0.05])!;
    this.#intervalMs = world.between(300, 4_000);
  }

  start(): void {
    const { world } = this.#simulation;
    if (this.#healed) return;
    world.after(2 * this.#intervalMs * world.fraction(), () => {
      if (this.#healed) return;
      world.pick(this.#kinds)?.();
      this.start();
    });
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
    for (const group of groups) {
      if (group.members.every(({ alive }) => !alive)) this.#simulation.startMember(group);
    }
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

  #slowDatabase(): void {
    const { world, database } = this.#simulation;
    database.slow = true;
    world.after(world.between(100, 3_000), () => {
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
