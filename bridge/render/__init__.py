"""Reports for people: text and HTML, as pure functions of `bridge.report.Report`."""
