// A browser starts no worker from a folder (file:), and the search runs in one. There its script runs in a hidden frame
// instead. Served over HTTP, nothing here is used.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)
      const inner = this.frame.contentWindow
      inner.postMessage = data => this.tell(this, data)
      this.ready = new Promise((resolve, reject) => {
        const script = inner.document.createElement("script")
        script.onload = resolve
        script.onerror = reject
        script.src = url
        inner.document.body.append(script)
      })
      this.ready.catch(() => this.tell(this, null, "error"))
    }

    tell(target, data, kind = "message") {
      const event = new MessageEvent(kind, { data: structuredClone(data) })
      setTimeout(() => {
        if (target === this && this[`on${kind}`]) this[`on${kind}`](event)
        target.dispatchEvent(event)
      })
    }

    postMessage(data) {
      this.ready.then(() => this.frame.isConnected && this.tell(this.frame.contentWindow, data), () => {})
    }

    terminate() {
      this.frame.remove()
    }
  }
}
