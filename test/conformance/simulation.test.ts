import { describe } from 'vitest';
import { SimulationLeaseSite } from './simulation-site.ts';
import { describeLease } from './suites/lease.suite.ts';

describe('in the simulation', () => {
  describeLease(() => new SimulationLeaseSite());
});
