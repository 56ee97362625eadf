import type { BrokerOptions } from '../../bench/support/broker-process.ts';
import { processBytes } from '../../src/account/budget.ts';
import { limits } from '../../src/limits/limits.ts';
import { Site } from '../broker/site.ts';
import { honest } from './pair/pair.ts';
import { Watch } from './pair/watch.ts';

const mib = 1_048_576;
/** HEAP_MIB of `npm start`. */
const defaultHeapMib = 256;

/**
 * A real broker as `npm start` runs it. Only an attack gets the site, so none runs without the
 * well-behaved pair beside it.
 */
export class HostileSite {
  readonly #site: Site;
  readonly #watch: Watch;

  private constructor(site: Site, watch: Watch) {
    this.#site = site;
    this.#watch = watch;
  }

  /** With a topic `orders` of two partitions. */
  static async open(options: Partial<BrokerOptions> = {}): Promise<HostileSite> {
    const { heapMib = defaultHeapMib } = options;
    const site = await Site.open({ ...options, heapMib });
    await site.createTopic('orders');
    const residentMibMax = Math.ceil(processBytes(heapMib * mib, limits) / mib);
    return new HostileSite(site, await Watch.open(site.broker, site.databaseUrl, residentMibMax));
  }

  /** Runs the attack, and expects a broker that is well, small, quick, and has lost nothing. */
  async attack<T>(run: (site: Site) => Promise<T>): Promise<T> {
    const result = await this.#watch.during(() => run(this.#site));
    await this.#site.expectAllThere(honest);
    return result;
  }

  /** Expects that the broker counts nothing any more of what has passed. */
  async close(): Promise<void> {
    try {
      this.#site.client.close();
      await this.#watch.close();
    } finally {
      await this.#site.close();
    }
  }
}
