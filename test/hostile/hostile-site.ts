import { readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'vitest';
import { Site } from '../broker/site.ts';

/** What the broker may be resident with, at the heap of 256 MiB that `npm start` gives it. */
const residentMibMax = 600;
const topic = 'orders';

/** A real broker as `npm start` runs it, and an ordinary publisher beside each attack. */
export class HostileSite {
  readonly site: Site;

  private constructor(site: Site) {
    this.site = site;
  }

  static async open(): Promise<HostileSite> {
    const site = await Site.open();
    await site.createTopic(topic);
    return new HostileSite(site);
  }

  /** Runs the attack, and expects a broker that is well, small, and has lost nothing. */
  async attack<T>(run: (site: Site) => Promise<T>): Promise<T> {
    const status = `/proc/${this.site.broker.pid}`;
    // Begins a new peak.
    writeFileSync(`${status}/clear_refs`, '5');
    const [result] = await Promise.all([run(this.site), this.site.publish(topic, 0, ['beside the attack'])]);
    await this.site.publish(topic, 1, ['after the attack']);
    const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`${status}/status`, 'utf8'))![1];
    expect(Number(peak) / 1_024, 'peak of what was resident, in MiB').toBeLessThan(residentMibMax);
    expect(this.site.broker.output()).not.toMatch(/bugId|INTERNAL/);
    return result;
  }

  async close(): Promise<void> {
    await this.site.close();
  }
}
