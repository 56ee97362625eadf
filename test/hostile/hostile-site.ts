import type { BrokerOptions } from '../../bench/support/broker-process.ts';
import { Site } from '../broker/site.ts';
import { honest } from './pair/pair.ts';
import { Watch } from './pair/watch.ts';

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
    const site = await Site.open(options);
    await site.createTopic('orders');
    return new HostileSite(site, await Watch.open(site.broker, site.databaseUrl));
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
