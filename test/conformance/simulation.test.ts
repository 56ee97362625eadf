import { describe } from 'vitest';
import { SimulationLeaseSite, SimulationStoreSite } from './simulation-site.ts';
import { describeCommits } from './suites/commits.suite.ts';
import { describeCursors } from './suites/cursors.suite.ts';
import { describeGaps } from './suites/gaps.suite.ts';
import { describeGroups } from './suites/groups.suite.ts';
import { describeLease } from './suites/lease.suite.ts';
import { describeLog } from './suites/log.suite.ts';
import { describeRebalances } from './suites/rebalances.suite.ts';
import { describeRetention } from './suites/retention.suite.ts';
import { describeSubscriptions } from './suites/subscriptions.suite.ts';
import { describeTopics } from './suites/topics.suite.ts';

const open = (): SimulationStoreSite => new SimulationStoreSite();

describe('in the simulation', () => {
  describeTopics(open);
  describeLog(open);
  describeCommits(open);
  describeGroups(open);
  describeRebalances(open);
  describeRetention(open);
  describeSubscriptions(open);
  describeCursors(open);
  describeGaps(open);
  describeLease(() => new SimulationLeaseSite());
});
