import { measureSteps, type GroupStepsResult, type GroupStepsSpec } from '../support/bare/group-steps.ts';
import { runLoad } from '../support/load-process.ts';

/** The steps of the coordinator of one large group, in a process of their own. */
runLoad<GroupStepsSpec, GroupStepsResult>((spec) => {
  const result = measureSteps(spec);
  return Promise.resolve({
    start: () => undefined,
    mark: () => undefined,
    collect: () => result,
    stop: () => Promise.resolve(),
  });
});
