import { brokerFull } from '../../errors/rejections/broker.ts';

/** False while there is hardly memory left for what stays: members, cursors, logs. What passes through has limits of its own. */
export type MayGrow = () => boolean;

/**
 * To be asked before anything that stays in memory for good: a broker without memory would end, and whoever takes over would
 * load the same and end too.
 * @throws Rejection BROKER_FULL
 */
export function refuseUnlessMayGrow(mayGrow: MayGrow): void {
  if (mayGrow()) return;
  throw brokerFull();
}
