// SPDX-License-Identifier: MIT OR Apache-2.0

import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.LocalDate;
import java.time.LocalTime;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.StringJoiner;
import org.apache.flink.api.common.functions.util.ListCollector;
import org.apache.flink.formats.common.TimestampFormat;
import org.apache.flink.formats.json.debezium.DebeziumJsonDeserializationSchema;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.utils.LogicalTypeParser;
import org.apache.flink.table.types.utils.TypeConversions;

/**
 * Reads Debezium envelopes, one a line, with Flink's format debezium-json, and prints each row that comes out as Flink
 * shows it to a query. Arguments: strict or lenient (debezium-json.ignore-parse-errors), and the columns in SQL.
 */
public final class Reader {
    public static void main(String[] arguments) throws Exception {
        boolean lenient = arguments[0].equals("lenient");
        LogicalType row = LogicalTypeParser.parse("ROW<" + arguments[1] + ">", Reader.class.getClassLoader());
        var format = new DebeziumJsonDeserializationSchema(
                TypeConversions.fromLogicalToDataType(row), List.of(), InternalTypeInfo.of(row), false, lenient, TimestampFormat.SQL);
        format.open(null);
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        var out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
        for (String line; (line = in.readLine()) != null; ) {
            var rows = new ArrayList<RowData>();
            format.deserialize(line.getBytes(StandardCharsets.UTF_8), new ListCollector<>(rows));
            for (RowData found : rows) {
                var fields = new StringJoiner("\t");
                fields.add(found.getRowKind().shortString());
                for (int at = 0; at < found.getArity(); at++) {
                    LogicalType type = row.getChildren().get(at);
                    fields.add(text(type, RowData.createFieldGetter(type, at).getFieldOrNull(found)));
                }
                out.println(fields);
            }
        }
        out.flush();
    }

    /** As MariaDB writes it; bytes in hexadecimal. */
    private static String text(LogicalType type, Object value) {
        if (value == null) {
            return "NULL";
        }
        return switch (type.getTypeRoot()) {
            case VARBINARY -> HexFormat.of().withUpperCase().formatHex((byte[]) value);
            case DATE -> LocalDate.ofEpochDay((Integer) value).toString();
            case TIME_WITHOUT_TIME_ZONE -> LocalTime.ofNanoOfDay((Integer) value * 1_000_000L).toString();
            case TIMESTAMP_WITHOUT_TIME_ZONE -> value.toString().replace('T', ' ');
            default -> value.toString();
        };
    }
}
