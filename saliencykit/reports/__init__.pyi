from .report_files import write_report as write_report
