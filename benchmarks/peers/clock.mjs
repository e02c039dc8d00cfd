// A clock that can be turned forward, in place of the process's own: Date and performance.now.
// Timers stay real. It must be installed before the libraries are imported.

export class VirtualClock {
  #offset = 0 // milliseconds

  install() {
    const RealDate = globalThis.Date
    const realNow = performance.now.bind(performance)
    const offset = () => this.#offset
    globalThis.Date = class Date extends RealDate {
      constructor(...given) {
        super(...(given.length ? given : [RealDate.now() + offset()]))
      }
      static now() {
        return RealDate.now() + offset()
      }
    }
    performance.now = () => realNow() + offset()
  }

  advance(seconds) {
    this.#offset += seconds * 1000
  }
}
