import { seededRandom } from '../support/random.ts';
import type { Team } from './team.ts';

/**
 * Kills members and breaks streams at regular numbers of published records. The seed chooses which.
 */
export class Trouble {
  readonly #teams: readonly Team[];
  readonly #everyRecords: number;
  readonly #killsMax: number;
  readonly #random: () => number;
  #made = 0;

  constructor(
    teams: readonly Team[],
    options: { readonly kills: number; readonly seed: number; readonly limit: number },
  ) {
    this.#teams = teams;
    this.#killsMax = options.kills;
    this.#random = seededRandom(options.seed);
    // The length of a source is unknown before its end. An index of Debian has some 60,000 records.
    this.#everyRecords = Math.max(1, Math.floor(Math.min(options.limit, 50_000) / (options.kills + 1)));
  }

  after(published: number): void {
    while (this.#made < this.#killsMax && published >= (this.#made + 1) * this.#everyRecords) this.#strike();
  }

  /** Takes the teams in turn, so that the group with one member is hit too. */
  #strike(): void {
    const team = this.#teams[this.#made % this.#teams.length]!;
    const index = Math.floor(this.#random() * team.size);
    if (this.#random() < 2 / 3) team.kill(index);
    else team.breakStream(index);
    this.#made++;
  }
}
